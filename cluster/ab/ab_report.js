"use strict";
(() => {
  const players = [...document.querySelectorAll("audio")];
  // One sounds at a time.
  for (const player of players) {
    player.addEventListener("play", () => {
      for (const other of players) if (other !== player) other.pause();
    });
  }
  // Source, a, b, one after another.
  for (const button of document.querySelectorAll("button[data-all]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const queue = [...button.closest("article").querySelectorAll("audio")];
      const next = () => {
        const player = queue.shift();
        if (!player) return;
        player.currentTime = 0;
        player.addEventListener("ended", next, { once: true });
        player.play();
      };
      next();
    });
  }
})();
