"""English names of languages that are often dubbed, as the Unicode CLDR has them (by ``langcodes``).

``langcodes`` reads all names in all languages for one of them, which takes half a second of computing.
"""

NAMES = dict(
    each.split("=")
    for each in """
af=Afrikaans; ar=Arabic; az=Azerbaijani; be=Belarusian; bg=Bulgarian; bn=Bangla; bs=Bosnian; ca=Catalan;
cs=Czech; cy=Welsh; da=Danish; de=German; de-DE=German (Germany); el=Greek; en=English; en-GB=English (United
Kingdom); en-US=English (United States); es=Spanish; es-419=Spanish (Latin America); es-ES=Spanish (Spain);
es-MX=Spanish (Mexico); et=Estonian; eu=Basque; fa=Persian; fi=Finnish; fil=Filipino; fr=French; fr-CA=French
(Canada); fr-FR=French (France); ga=Irish; gl=Galician; gu=Gujarati; he=Hebrew; hi=Hindi; hr=Croatian;
hu=Hungarian; hy=Armenian; id=Indonesian; is=Icelandic; it=Italian; it-IT=Italian (Italy); ja=Japanese;
ka=Georgian; kk=Kazakh; km=Khmer; kn=Kannada; ko=Korean; ky=Kyrgyz; lo=Lao; lt=Lithuanian; lv=Latvian;
mk=Macedonian; ml=Malayalam; mn=Mongolian; mr=Marathi; ms=Malay; my=Burmese; nb=Norwegian Bokmål; ne=Nepali;
nl=Dutch; nn=Norwegian Nynorsk; no=Norwegian; pa=Punjabi; pl=Polish; pt=Portuguese; pt-BR=Portuguese (Brazil);
pt-PT=Portuguese (Portugal); ro=Romanian; ru=Russian; sk=Slovak; sl=Slovenian; sq=Albanian; sr=Serbian;
sv=Swedish; sw=Swahili; ta=Tamil; te=Telugu; th=Thai; tr=Turkish; uk=Ukrainian; ur=Urdu; uz=Uzbek;
vi=Vietnamese; zh=Chinese; zh-Hans=Chinese (Simplified); zh-Hant=Chinese (Traditional)
""".replace("\n", " ")
    .strip()
    .split("; ")
)
"""BCP-47 → name."""
