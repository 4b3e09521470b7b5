"""FLORES-200 codes, which NLLB speaks, from BCP-47 tags.

A code is ISO 639-3 and a script: por_Latn. The list is that of NLLB's tokenizer, which differs from
the data set's in one name (sat_Beng for Santali, whose text is in Ol Chiki).
"""

from __future__ import annotations

from functools import lru_cache

import langcodes

from actors import languages
from actors.errors import ConfigError

# fmt: off
_BY_SCRIPT = {
    "Arab": "ace acm acq aeb ajp apc arb ars ary arz azb bjn ckb kas knc pbt pes prs snd uig urd",
    "Armn": "hye",
    "Beng": "asm ben mni sat",
    "Cyrl": "bak bel bul kaz khk kir mkd rus srp tat tgk ukr",
    "Deva": "awa bho hin hne kas mag mai mar npi san",
    "Ethi": "amh tir",
    "Geor": "kat",
    "Grek": "ell",
    "Gujr": "guj",
    "Guru": "pan",
    "Hang": "kor",
    "Hans": "zho",
    "Hant": "yue zho",
    "Hebr": "heb ydd",
    "Jpan": "jpn",
    "Khmr": "khm",
    "Knda": "kan",
    "Laoo": "lao",
    "Latn": (
        "ace afr aka als ast ayr azj bam ban bem bjn bos bug cat ceb ces cjk crh cym dan deu dik dyu eng epo est eus "
        "ewe fao fij fin fon fra fur fuv gaz gla gle glg grn hat hau hrv hun ibo ilo ind isl ita jav kab kac kam kbp "
        "kea kik kin kmb kmr knc kon lij lim lin lit lmo ltg ltz lua lug luo lus lvs min mlt mos mri nld nno nob nso "
        "nus nya oci pag pap plt pol por quy ron run sag scn slk slv smo sna som sot spa srd ssw sun swe swh szl taq "
        "tgl tpi tsn tso tuk tum tur twi umb uzn vec vie war wol xho yor zsm zul"
    ),
    "Mlym": "mal",
    "Mymr": "mya shn",
    "Orya": "ory",
    "Sinh": "sin",
    "Taml": "tam",
    "Telu": "tel",
    "Tfng": "taq tzm",
    "Thai": "tha",
    "Tibt": "bod dzo",
}
# fmt: on
CODES = tuple(sorted(f"{language}_{script}" for script, listed in _BY_SCRIPT.items() for language in listed.split()))

_EXCEPTIONS = {
    ("fa", "AF"): "prs_Arab",  # Dari: langcodes, as CLDR, has no other name for it
    ("az", "IR"): "azb_Arab",  # South Azerbaijani
    ("ku", "IQ"): "ckb_Arab",  # Central Kurdish
}
"""(language, region) that NLLB treats as a language of its own.

Not so the Arabic of a region: ar-EG is the standard language as written in Egypt, and Egyptian
is arz, Moroccan ary, Iraqi acm, Levantine apc or ajp, Najdi ars, Tunisian aeb, Yemeni acq.
"""
_SCRIPT_EXCEPTIONS = {
    ("sat", "Olck"): "sat_Beng",
    ("az", "Arab"): "azb_Arab",
    ("ku", "Arab"): "ckb_Arab",
}
_STANDARDS = {"pbt": "ps", "quy": "qu", "fuv": "ff", "nob": "no"}
"""NLLB's only member of a macrolanguage, for members that langcodes does not assign to it."""
_DEFAULT_SCRIPTS = {"ace": "Latn", "bjn": "Latn", "kr": "Latn", "ks": "Arab", "taq": "Latn", "zh": "Hans"}
"""Script of a language with several, if neither the tag nor CLDR names one."""


@lru_cache(maxsize=1024)
def flores(tag: str) -> str | None:
    """NLLB's code for a BCP-47 tag, by language, script and region: zh-TW → zho_Hant; None if it has none.

    A tag in a script that NLLB does not write (sr-Latn, uz-Cyrl) has none: the answer would be in another.
    """
    try:
        asked = langcodes.get(languages.normalise(tag))
    except ConfigError:
        return None
    # ar-arz and zh-yue are the old way to write arz and yue.
    language = _language(asked.extlangs[0] if asked.extlangs else asked.language or "")
    if not _by_script(language):
        return None
    if asked.script is not None:
        exception = _SCRIPT_EXCEPTIONS.get((language, asked.script))
        return exception or _by_script(language).get(asked.script)
    exception = _EXCEPTIONS.get((language, asked.territory or ""))
    if exception is not None:
        return exception
    return _unscripted(language, asked.territory)


def bcp47(code: str) -> str:
    """The shortest tag that ``flores`` takes to this code: por_Latn → pt."""
    language, script = code.split("_")
    if code == "prs_Arab":
        return "fa-AF"
    short, macro = _primary(language), langcodes.standardize_tag(language, macro=True)
    candidates = (_STANDARDS.get(language, macro), short, f"{macro}-{script}", f"{short}-{script}")
    return next(tag for tag in candidates if flores(tag) == code)


def _unscripted(language: str, territory: str | None) -> str | None:
    scripts = _by_script(language)
    usual = langcodes.get(language).maximize().script
    here = langcodes.get(f"{language}-{territory}").maximize().script if territory else usual
    if here in scripts:
        return scripts[here]
    if here != usual:  # the region writes it otherwise: pa-PK is not in Gurmukhi
        return None
    return next(iter(scripts.values())) if len(scripts) == 1 else scripts.get(_DEFAULT_SCRIPTS.get(language, ""))


def _language(subtag: str) -> str:
    """The key of ``_scripts`` for a primary language subtag; the subtag itself if there is none."""
    if subtag in _scripts():
        return subtag
    # A member of a macrolanguage that NLLB has: cmn of zh, ekk of et.
    macro = langcodes.get(langcodes.standardize_tag(subtag, macro=True)).language if subtag else None
    return macro or subtag


def _by_script(language: str) -> dict[str, str]:
    return _scripts().get(language, {})


@lru_cache(maxsize=1)
def _scripts() -> dict[str, dict[str, str]]:
    """Primary subtag → script → code, by the code's own language and by its macrolanguage."""
    exact: dict[str, dict[str, str]] = {}
    macro: dict[str, dict[str, str]] = {}
    for code in CODES:
        language, script = code.split("_")
        if code == "prs_Arab":
            continue
        exact.setdefault(_primary(language), {})[script] = code
        macro.setdefault(langcodes.standardize_tag(language, macro=True), {})[script] = code
        if language in _STANDARDS:
            macro.setdefault(_STANDARDS[language], {})[script] = code
    return macro | exact


def _primary(language: str) -> str:
    return langcodes.get(langcodes.standardize_tag(language)).language or language
