"""MADLAD-400's languages. Its vocabulary has one token for each: <2pt>, <2zh_Hant>.

A code is a BCP-47 tag with underscores. Which there are, the model's own tokenizer says; where that is not at hand, the
published models' list does.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import langcodes

from actors import languages
from actors.errors import ConfigError

_PUBLISHED = (
    "abt ace ace_Arab acf ada adh ady af agr ahk ak akb alt alz am amu an ang ann ape ar arn ary arz as av awa ay "
    "az az_RU ba ban bar bas bbc bci be ber ber_Latn bew bg bg_Latn bgp bho bi bik bim bjn bjn_Arab bm bn bn_Latn "
    "bo bqc br bru brx bs bts btx bua bug bum bus bzj ca cab cac cak cbk cce ce ceb cfm ch chk chm chr ckb cnh co "
    "cr_Latn crh crh_Latn crs cs ctd_Latn ctu cuk cv cy da de din dje djk dln doi dov dtp dv dwr dyu dz ee el "
    "el_Latn emp en enq eo es et eu fa ff ffm fi fil fip fj fo fon fr fr_CA frp fur fuv fy ga gag gbm gd gl gn "
    "gof gom gom_Latn gor grc gsw gu gu_Latn gub guc guh gui gv gvl gym ha haw he hi hi_Latn hif hil hmn hne ho "
    "hr ht hu hui hus hvn hy iba ibb id ify ig ilo inb io is iso it iu ium izz ja jac jam jiv jv jvn ka kaa "
    "kaa_Latn kac kbd kbp kek kg kha kj kjg kjh kk kl km kmb kmz_Latn kn kn_Latn knj ko koi kos kr kr_Arab krc "
    "kri ks ks_Deva ksd ksw ktu ku kum kv kw kwi ky la laj lb lg lhu li lij lmo ln lo lrc lt ltg lu lus lv mad "
    "mag mai mak mam mas maz mbt mdf meo meu mfe mg mgh mh mi min miq mk mkn ml ml_Latn mn mni mps mqy mr mrj mrw "
    "ms ms_Arab ms_Arab_BN msb msi msm mt mwl my myv nan_Latn_TW ndc_ZW nds nds_NL ne new ngu nhe nia nij niq nl "
    "nn nnb no noa nog nr nso nus nut nv ny nyu nzi oc oj om or os otq pa pag pap pau pck pis pl pon ppk prs ps "
    "pt qu qub quc quf quh qup quy qvc qvi qvz qxr raj rcf rki rm rmc rn ro rom ru ru_Latn rw rwo sa sah sat_Latn "
    "sc scn sd sda se seh sg sh shn shp si sja sk skr sl sm smt sn so spp sq sr srm srn ss st stq su sus suz sv "
    "sw sxn syr szl ta ta_Latn tab taj taq taq_Tfng tbz tca tcy tdx te te_Latn teo tet tg th ti tiv tk tks tlh "
    "tll tly_IR tn to toj tr trp ts tsc tsg tt tuc tvl twu tyv tyz tzh tzj tzm tzo ubu udm ug uk ur uz ve vec vi "
    "wa wal war wo wuu xal xh yap yi yo yua zap zh zh_Hant zh_Latn zne zu zza"
)
PUBLISHED = tuple(_PUBLISHED.split())
"""Codes of the published models, each with a token of its own."""
NO_LANGUAGES = frozenset({"en_xx_simple"})
"""Codes of tasks that look like those of languages."""
_MARK = re.compile(rb'"<2([A-Za-z_]*)>"')
_CODE = re.compile(r"[a-z]{2,3}(_[A-Za-z]+)*")


def mark(code: str) -> str:
    """The token that asks for translation into a language: pt → <2pt>."""
    return f"<2{code}>"


def all_marks(tokenizer: Path) -> frozenset[str]:
    """The tokens of languages, scripts, regions and tasks in a tokenizer.json."""
    state = tokenizer.stat()
    return _marks_in(tokenizer, state.st_mtime_ns, state.st_size)


def codes_in(tokenizer: Path) -> tuple[str, ...]:
    """The codes of languages that a tokenizer.json has tokens for, sorted."""
    return _codes_of(all_marks(tokenizer))


@lru_cache(maxsize=8)
def _marks_in(tokenizer: Path, _changed_ns: int, _size_bytes: int) -> frozenset[str]:
    return frozenset(mark(name.decode()) for name in _MARK.findall(tokenizer.read_bytes()))


@lru_cache(maxsize=8)
def _codes_of(marks: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(filter(_is_language, (found[2:-1] for found in marks))))


def _is_language(code: str) -> bool:
    if code in NO_LANGUAGES or not _CODE.fullmatch(code):
        return False
    try:
        languages.normalise(tag_of(code))
    except ConfigError:
        return False
    return True


@lru_cache(maxsize=4096)
def code_of(tag: str, codes: tuple[str, ...]) -> str | None:
    """The code for a BCP-47 tag, by language, script and region: zh-TW → zh_Hant; None if there is none.

    A tag in a script that the model does not write (uz-Cyrl) has none: the answer would be in another.
    """
    try:
        asked = languages.normalise(tag)
    except ConfigError:
        return None
    by_tag = {tag_of(code): code for code in codes}
    match = languages.best_match(asked, by_tag)
    return None if match is None or script_of(match) != script_of(asked) else by_tag[match]


@lru_cache(maxsize=1024)
def tag_of(code: str) -> str:
    """The BCP-47 tag of a code: sh → sr-Latn."""
    return langcodes.standardize_tag(code.replace("_", "-"))


def script_of(tag: str) -> str | None:
    return langcodes.get(tag).maximize().script
