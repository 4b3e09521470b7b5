from __future__ import annotations

import pytest

from actors.translation._nllb.flores import CODES, bcp47, flores


def test_there_are_202_codes() -> None:
    assert len(CODES) == len(set(CODES)) == 202


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_tag_that_leads_back_to_it(code: str) -> None:
    assert flores(bcp47(code)) == code
    assert flores(code) == code
    assert flores(code.replace("_", "-")) == code


def test_tags_are_those_that_people_write() -> None:
    tags = {bcp47(code) for code in CODES}
    assert len(tags) == 202
    assert {"en", "pt", "zh", "zh-Hant", "ar", "fa", "fil", "he", "lv", "ms", "sw", "uz", "yue", "ks-Deva"} <= tags


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("en-GB", "eng_Latn"),
        ("EN_us", "eng_Latn"),
        ("pt-BR", "por_Latn"),
        ("pt-PT", "por_Latn"),
        ("es-419", "spa_Latn"),
        # Chinese: script, region, or neither
        ("zh", "zho_Hans"),
        ("zh-CN", "zho_Hans"),
        ("zh-SG", "zho_Hans"),
        ("zh-TW", "zho_Hant"),
        ("zh-HK", "zho_Hant"),
        ("zh-Hant-HK", "zho_Hant"),
        ("cmn", "zho_Hans"),
        ("yue", "yue_Hant"),
        ("zh-yue", "yue_Hant"),
        # names that changed
        ("iw", "heb_Hebr"),
        ("ji", "ydd_Hebr"),
        ("in", "ind_Latn"),
        ("jw", "jav_Latn"),
        ("mo", "ron_Latn"),
        ("tl", "tgl_Latn"),
        ("fil", "tgl_Latn"),
        # a larger language, of which NLLB has one
        ("no", "nob_Latn"),
        ("nb", "nob_Latn"),
        ("nn", "nno_Latn"),
        ("et", "est_Latn"),
        ("ekk", "est_Latn"),
        ("lv", "lvs_Latn"),
        ("ms", "zsm_Latn"),
        ("sw", "swh_Latn"),
        ("sq", "als_Latn"),
        ("fa", "pes_Arab"),
        ("mn", "khk_Cyrl"),
        ("mg", "plt_Latn"),
        ("ne", "npi_Deva"),
        ("or", "ory_Orya"),
        ("yi", "ydd_Hebr"),
        ("om", "gaz_Latn"),
        ("ps", "pbt_Arab"),
        ("qu", "quy_Latn"),
        ("ff", "fuv_Latn"),
        ("uz", "uzn_Latn"),
        # languages of their own
        ("ak", "aka_Latn"),
        ("tw", "twi_Latn"),
        ("ar", "arb_Arab"),
        ("ar-EG", "arb_Arab"),
        ("arz", "arz_Arab"),
        ("ar-arz", "arz_Arab"),
        ("ary", "ary_Arab"),
        ("fa-AF", "prs_Arab"),
        ("prs", "prs_Arab"),
        # several scripts, or one that is not the usual
        ("sr", "srp_Cyrl"),
        ("sr-Cyrl", "srp_Cyrl"),
        ("az", "azj_Latn"),
        ("az-Arab", "azb_Arab"),
        ("az-IR", "azb_Arab"),
        ("ku", "kmr_Latn"),
        ("ku-Arab", "ckb_Arab"),
        ("kr", "knc_Latn"),
        ("kr-Arab", "knc_Arab"),
        ("ks", "kas_Arab"),
        ("ks-Deva", "kas_Deva"),
        ("crh", "crh_Latn"),
        ("tzm", "tzm_Tfng"),
        ("sat", "sat_Beng"),
        ("sat-Olck", "sat_Beng"),
        ("ace", "ace_Latn"),
        ("pa", "pan_Guru"),
    ],
)
def test_a_tag_has_the_code_of_its_language_and_script(tag: str, code: str) -> None:
    assert flores(tag) == code


@pytest.mark.parametrize(
    "tag",
    ["sr-Latn", "sr-ME", "uz-Cyrl", "mn-Mong", "pa-PK", "en-Cyrl", "la", "tlh", "und", "zxx", "", "?", "xx-yy-zz"],
)
def test_what_nllb_does_not_write_has_none(tag: str) -> None:
    assert flores(tag) is None
