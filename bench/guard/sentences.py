"""Sentences said with pauses, and their translations divided at the pauses: the texts of the guard's measures."""

from __future__ import annotations

Phrases = tuple[str, ...]

SENTENCES: tuple[tuple[Phrases, Phrases], ...] = (
    (
        ("The ferry leaves the island at seven", "and comes back before the sun goes down."),
        ("A balsa sai da ilha às sete", "e volta antes de o sol se pôr."),
    ),
    (
        ("We left the windows open all night", "because the house was still warm."),
        ("Deixamos as janelas abertas a noite toda", "porque a casa ainda estava quente."),
    ),
    (
        ("When the first snow fell in the mountains,", "the shepherds had already come down to the valley."),
        ("Quando a primeira neve caiu nas montanhas,", "os pastores já tinham descido para o vale."),
    ),
    (
        ("Nobody in the village remembers", "who built the old stone bridge", "or why it has only one arch."),
        ("Ninguém na aldeia se lembra", "de quem construiu a velha ponte de pedra", "nem por que ela tem um só arco."),
    ),
    (
        ("My grandmother kept the letters in a box", "that she never opened again."),
        ("Minha avó guardava as cartas em uma caixa", "que ela nunca mais abriu."),
    ),
    (
        ("If you turn left at the bakery,", "you will see the tower of the church."),
        ("Se você virar à esquerda na padaria,", "vai ver a torre da igreja."),
    ),
    (
        ("The bread must rest for an hour", "before you put it in the oven."),
        ("O pão deve descansar por uma hora", "antes de ir para o forno."),
    ),
    (
        ("She learned to swim in the river", "where her father used to fish."),
        ("Ela aprendeu a nadar no rio", "onde o pai dela costumava pescar."),
    ),
    (
        ("The train was late again this morning,", "so we walked to the market", "and bought oranges and cheese."),
        ("O trem atrasou de novo esta manhã,", "então fomos a pé até o mercado", "e compramos laranjas e queijo."),
    ),
    (
        ("He repaired the clock with great patience,", "but it still loses two minutes every day."),
        ("Ele consertou o relógio com muita paciência,", "mas ele ainda atrasa dois minutos por dia."),
    ),
    (
        ("The children planted a tree in the garden", "and watered it every evening."),
        ("As crianças plantaram uma árvore no jardim", "e a regavam todas as tardes."),
    ),
    (
        (
            "Before the bridge was opened to the public,",
            "three engineers walked across it",
            "in the middle of a storm.",
        ),
        ("Antes de a ponte ser aberta ao público,", "três engenheiros a atravessaram", "no meio de uma tempestade."),
    ),
)
"""(English phrases, Brazilian Portuguese phrases)."""
