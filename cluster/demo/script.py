"""The text of the demo talk: two speakers, six chapters, ordinary spoken English, true facts.

Numbers, names, questions, commas and short asides are there on purpose: they test translation and timing.
"""

from __future__ import annotations

from dataclasses import dataclass

SPEAKERS = ("Hannah", "Joe")
"""They take turns, sentence by sentence; Hannah begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    title: str
    bullets: tuple[str, ...]
    """Shown one after another while the chapter is spoken."""
    sentences: tuple[str, ...]
    """An even number, so that each chapter begins with the first speaker."""


TALK_TITLE = "Small Wonders"

OPENING = Chapter(
    title="Six things worth a second look",
    bullets=("A conversation between Hannah and Joe",),
    sentences=(
        "Good morning, everyone, and welcome to Small Wonders.",
        "I'm Joe, this is Hannah, and we promise to use no equations at all.",
    ),
)

CHAPTERS = (
    Chapter(
        title="How tides work",
        bullets=("The moon pulls, the Earth turns", "The sun helps, or gets in the way", "The coast decides how much"),
        sentences=(
            "Have you ever wondered why the sea comes in and goes out twice a day?",
            "It is mostly the moon, which pulls on the near side of the Earth a little more than on the far side.",
            "So the water piles up in two gentle bulges, one facing the moon and one facing away.",
            "Then the Earth turns underneath them, and every coast passes through both.",
            "But why is high tide about fifty minutes later each day?",
            "Because the moon moves along its orbit, and the Earth needs that extra time to catch up.",
            "The sun pulls too, with a little less than half the strength of the moon.",
            "When the two of them line up, at new moon and full moon, we get the strongest tides.",
            "In the Bay of Fundy, in Canada, the water can rise by sixteen metres.",
            "That is as tall as a building of five floors, and it happens twice a day.",
            "In the Mediterranean, on the other hand, you would hardly notice it.",
            "The shape of the coast matters, just as every bathtub sloshes at its own pace.",
            "Fishermen knew all of this long before Isaac Newton explained it in 1687.",
            "They kept it in tables, in songs, and in the habit of looking at the sky.",
        ),
    ),
    Chapter(
        title="Why bridges hum",
        bullets=(
            "Wind leaves whirlpools behind",
            "Thin cables sing high, thick ones low",
            "Dampers soak up the motion",
        ),
        sentences=(
            "Stand on a long bridge on a windy day, and you may hear it hum.",
            "The wind curls around each cable, and leaves a row of little whirlpools behind.",
            "They peel away from one side and then from the other, as regularly as a clock.",
            "Every whirlpool gives the cable a tiny push, first up, then down.",
            "What happens when the pushes match the rhythm of the cable itself?",
            "It starts to sing, the way a wine glass does when you rub its rim.",
            "In 1878 a man called Vincenc Strouhal measured this, with wires that he swung through the air.",
            "He found that a faster wind gives a higher note, and a thicker wire a lower one.",
            "In 2020 new railings made the Golden Gate Bridge whistle, and people heard it miles away.",
            "Some of them found it haunting, and one guitarist played along with it.",
            "Most of the time a hum is harmless, because dampers on the cables soak up the motion.",
            "They work like the shock absorbers of a car.",
            "The next time you cross a bridge, stop for a minute and listen.",
            "It is telling you how hard the wind is blowing.",
        ),
    ),
    Chapter(
        title="The history of tea",
        bullets=("One plant, many kinds of tea", "From China to Japan to Europe", "A princess makes it fashionable"),
        sentences=(
            "According to legend, tea was discovered when some leaves drifted into an emperor's pot of hot water.",
            "Nobody can prove that story, but people in China have been drinking tea for two thousand years.",
            "Green tea and black tea come from the very same plant.",
            "The difference is how long the leaves meet the air before they are dried.",
            "Buddhist monks carried tea to Japan, where drinking it became a quiet ceremony.",
            "Dutch ships brought it to Europe, and at first it was sold as a medicine.",
            "So how did the British come to love it so much?",
            "One answer is Catherine of Braganza, a Portuguese princess, who made it fashionable in London.",
            "She married King Charles in 1662, and they say she asked for a cup of tea as soon as she landed.",
            "For a long time it was so expensive that families kept it in a locked box.",
            "Today the world drinks more than two billion cups of tea every day.",
            "Only water is more popular.",
            "My own rule is simple, which is to warm the pot, wait four minutes, and never rush.",
            "My rule is even simpler, just add milk and find a biscuit.",
        ),
    ),
    Chapter(
        title="What makes bread rise",
        bullets=(
            "Yeast eats sugar, breathes out gas",
            "Gluten holds the bubbles",
            "Heat sets the walls and browns the crust",
        ),
        sentences=(
            "Bread begins with four things, which are flour, water, salt and yeast.",
            "Yeast is alive, and a single gram of it holds billions of cells.",
            "They eat the sugar in the flour, and they breathe out carbon dioxide.",
            "So why doesn't the gas simply escape?",
            "Because kneading turns the proteins of wheat into a stretchy net, and we call it gluten.",
            "Each bubble is caught in that net, like air in a balloon.",
            "In a warm kitchen, the dough will double in size in about an hour and a half.",
            "In the fridge it needs a whole night, but it tastes better in the morning.",
            "In the oven the bubbles swell one last time, and then the walls set firm.",
            "The crust turns brown when sugars and proteins react, above a hundred and forty degrees.",
            "Louis Maillard, a French chemist, described that reaction in 1912.",
            "The smell alone can fill a whole street.",
            "The oldest bread that we know of was baked in Jordan, more than 14,000 years ago.",
            "That is older than farming, so somebody must have gathered wild grain by hand.",
        ),
    ),
    Chapter(
        title="The language of lighthouses",
        bullets=(
            "Every light has its own rhythm",
            "Fresnel cuts the lens into rings",
            "Families kept the lamps burning",
        ),
        sentences=(
            "Every lighthouse has its own signature, a rhythm of light and dark.",
            "A sailor with a watch can count the seconds, and know exactly which one it is.",
            "The most famous of them all stood in Alexandria, and it was about a hundred metres tall.",
            "Earthquakes brought it down, but its stones are still lying on the sea floor.",
            "How do you throw the light of a small flame across twenty miles of water?",
            "A young engineer in Paris, Augustin Fresnel, found the answer.",
            "He cut a big lens into rings, and threw away the glass that was not needed.",
            "The result was light enough to turn, and bright enough to reach the horizon.",
            "And who kept the lamps burning, night after night?",
            "Families did, and often the children helped too.",
            "In 1838 Grace Darling rowed out into a storm with her father, and helped to save nine people.",
            "She became so famous that strangers wrote to ask for a lock of her hair.",
            "Nearly all the lights are automatic now.",
            "Still, on a dark coast, it is good to see one.",
        ),
    ),
    Chapter(
        title="Why every map is wrong",
        bullets=("A globe cannot be made flat", "Mercator kept the angles", "A good map has a purpose"),
        sentences=(
            "Peel an orange, and try to press the skin flat on the table.",
            "It tears, and that is exactly the trouble with maps.",
            "A globe cannot be made flat without stretching something.",
            "You may keep the angles, or you may keep the areas, but you can't keep both.",
            "Gerard Mercator chose the angles in 1569, because sailors needed to steer by them.",
            "On his map, Greenland looks as large as Africa.",
            "In truth, Africa is about fourteen times larger.",
            "Does that mean the map is bad?",
            "Not at all, it only means that it was drawn for a purpose.",
            "The map of the London Underground is wrong too, and millions of people find their way with it.",
            "Harry Beck, who drew it, borrowed the style from the plans of electrical circuits.",
            "He was paid about ten pounds for it, which was a bargain.",
            "Today a phone can tell you where you are, to within five metres.",
            "And yet most of us still turn the map around to match the street.",
        ),
    ),
)
