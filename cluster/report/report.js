"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const players = [...document.querySelectorAll("video, audio")];
  const svgs = [...document.querySelectorAll(".row > svg")];
  const rows = [...document.querySelectorAll(".lines tbody tr")];
  const spans = rows.map((row) => [Number(row.dataset.s), Number(row.dataset.e)]);
  const timeline = document.querySelector(".timeline");
  const tools = document.querySelector(".tools");
  const play = byId("play"), now = byId("now"), listen = byId("listen");
  let active = players[0];

  const clock = (t) => {
    const tenths = Math.round(t * 10), s = Math.floor(tenths / 10);
    const pad = (n) => String(n).padStart(2, "0");
    const hours = Math.floor(s / 3600), minutes = Math.floor(s / 60) % 60;
    return `${hours ? `${hours}:${pad(minutes)}` : minutes}:${pad(s % 60)}.${tenths % 10}`;
  };

  // --- where we are: the line on the timeline, the marked table row, the clock

  const playhead = document.createElementNS("http://www.w3.org/2000/svg", "line");
  playhead.setAttribute("class", "playhead");
  playhead.setAttribute("y1", "0");
  playhead.setAttribute("y2", "100%");

  const show = (t) => {
    if (now) now.textContent = clock(t);
    const svg = svgs.length ? svgs[Math.min(svgs.length - 1, Math.floor(t / Number(svgs[0].dataset.length)))] : null;
    if (svg) {
      const x = `${100 * (t - Number(svg.dataset.from)) / Number(svg.dataset.length)}%`;
      playhead.setAttribute("x1", x);
      playhead.setAttribute("x2", x);
      if (playhead.parentNode !== svg) {
        svg.append(playhead);
        // Only the timeline's own box scrolls: the page stays where the reader is.
        const box = timeline.getBoundingClientRect(), row = svg.parentNode.getBoundingClientRect();
        if (row.top < box.top) timeline.scrollTop += row.top - box.top;
        if (row.bottom > box.bottom) timeline.scrollTop += row.bottom - box.bottom;
      }
    }
    rows.forEach((row, i) => {
      if (spans[i][0] <= t && t < spans[i][1]) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    });
  };

  const seek = (t) => {
    for (const player of players) player.currentTime = t;
    show(t);
  };

  // --- players: one sounds at a time

  const choose = (player) => {
    active = player;
    if (listen) listen.value = String(players.indexOf(player));
  };
  const label = () => {
    if (play) play.textContent = active && !active.paused ? "Pause" : "Play";
  };
  players.forEach((player, i) => {
    const unplayable = () => {
      player.parentNode.querySelector(".unplayable")?.removeAttribute("hidden");
      if (listen) listen.options[i].disabled = true;
      const other = players.find((candidate) => !candidate.error);
      if (player === active && other) choose(other);
    };
    if (listen) listen.add(new Option(player.dataset.label, String(i)));
    if (player.error) unplayable();
    player.addEventListener("error", unplayable);
    player.addEventListener("play", () => {
      players.forEach((other) => other !== player && other.pause());
      choose(player);
      label();
    });
    player.addEventListener("pause", label);
    for (const event of ["timeupdate", "seeked"]) {
      player.addEventListener(event, () => player === active && show(player.currentTime));
    }
  });
  play?.addEventListener("click", () => {
    if (!active.paused) active.pause();
    else active.play().catch(label);
  });
  listen?.addEventListener("change", () => {
    const before = active, sounding = !before.paused;
    before.pause();
    choose(players[Number(listen.value)]);
    active.currentTime = before.currentTime;
    if (sounding) active.play().catch(label);
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-seek]");
    if (button) return seek(Number(button.dataset.seek));
    const svg = event.target.closest(".row > svg");
    if (!svg) return;
    const bar = event.target.closest("[data-s]");
    if (bar) return seek(Number(bar.dataset.s));
    const box = svg.getBoundingClientRect();
    seek(Number(svg.dataset.from) + (event.clientX - box.left) / box.width * Number(svg.dataset.length));
  });

  // --- filter

  if (!tools) return;
  const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  const texts = rows.map((row) => plain(row.textContent));
  const filter = () => {
    const wanted = plain(byId("search").value.trim()), flaggedOnly = byId("flagged-only").checked;
    const flag = byId("flag").value;
    let numShown = 0;
    rows.forEach((row, i) => {
      const flags = row.dataset.flags?.split(" ") ?? [];
      row.hidden = (flaggedOnly && !row.classList.contains("flagged")) || !texts[i].includes(wanted)
        || (flag !== "" && !flags.includes(flag));
      numShown += !row.hidden;
    });
    byId("found").textContent = numShown === rows.length ? `${rows.length} lines` : `${numShown} of ${rows.length} lines`;
  };
  byId("search").addEventListener("input", filter);
  byId("flagged-only").addEventListener("change", filter);
  byId("flag").addEventListener("change", filter);
  tools.hidden = false;
  filter();
})();
