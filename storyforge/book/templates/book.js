(() => {
  "use strict";
  const root = document.documentElement;
  const main = document.getElementById("book");
  const place = document.getElementById("place");
  const back = document.getElementById("back");
  const forth = document.getElementById("forth");
  const leaves = [...main.querySelectorAll(".leaf")];
  const wide = matchMedia("(min-width: 900px) and (min-height: 481px) and (min-aspect-ratio: 6/5)");
  const small = matchMedia("(max-width: 640px), (max-height: 480px)");
  const rtl = main.dir === "rtl";
  let openings = [];
  let now = 0;

  // An opening is what lies open at once: the cover alone, then a left and a right page.
  const lay = () => {
    const kept = small.matches ? leaves.filter((leaf) => !leaf.classList.contains("empty")) : leaves;
    if (!wide.matches) return kept.map((leaf) => [leaf]);
    const pairs = [[kept[0]]];
    for (let i = 1; i < kept.length; i += 2) pairs.push(kept.slice(i, i + 2));
    return pairs;
  };
  const show = (index, turning) => {
    now = Math.max(0, Math.min(index, openings.length - 1));
    const open = openings[now];
    main.classList.remove("turning-on", "turning-back");
    for (const leaf of leaves) {
      leaf.hidden = !open.includes(leaf);
      leaf.classList.toggle("alone", open.length === 1);
      leaf.classList.toggle("first", leaf === open[0]);
      leaf.classList.toggle("second", leaf === open[1]);
    }
    if (turning) {
      void main.offsetWidth;
      main.classList.add(turning > 0 !== rtl ? "turning-on" : "turning-back");
    }
    const named = open.filter((leaf) => leaf.getAttribute("aria-hidden") !== "true");
    place.textContent = `${now + 1} / ${openings.length}`;
    place.setAttribute("aria-label", named.map((leaf) => leaf.getAttribute("aria-label")).join(", "));
    back.disabled = now === 0;
    forth.disabled = now === openings.length - 1;
    look(turning < 0 ? -1 : 0);
    if (turning) speak();
    if (turning) {
      scrollTo(0, 0);
      history.replaceState(null, "", `#${open[0].id}`);
    }
  };
  // Panel by panel: steps go through the pictures of an opening before they turn the page.
  const guide = document.getElementById("guide");
  let guided = false;
  let panel = 0;
  const panels = () => openings[now]
    .filter((leaf) => leaf.hasAttribute("data-guided"))
    .flatMap((leaf) => [...leaf.querySelectorAll(".picture")]);
  const look = (index) => {
    for (const sheet of main.querySelectorAll(".looking")) {
      sheet.classList.remove("looking");
      sheet.style.removeProperty("--guide");
    }
    for (const picture of main.querySelectorAll(".looked-at")) picture.classList.remove("looked-at");
    const all = guided ? panels() : [];
    panel = index < 0 ? all.length - 1 : index;
    const picture = all[panel];
    if (!picture) return;
    const sheet = picture.closest(".sheet");
    const percent = (name) => parseFloat(picture.style.getPropertyValue(name));
    const [x, y, w, h] = ["--x", "--y", "--w", "--h"].map(percent);
    const zoom = Math.min(96 / w, 96 / h, 3);
    const left = (100 - w * zoom) / 2 - x * zoom;
    const top = (100 - h * zoom) / 2 - y * zoom;
    const { offsetWidth: width, offsetHeight: height } = sheet;
    sheet.style.setProperty("--guide",
      `translate(${(left * width) / 100}px, ${(top * height) / 100}px) scale(${zoom})`);
    sheet.classList.add("looking");
    picture.classList.add("looked-at");
    place.setAttribute("aria-label", picture.querySelector("img").alt);
  };

  // Read aloud: the recordings of an opening, one after the other, then the next opening.
  const voice = document.getElementById("voice");
  let reading = false;
  let waiting = 0;
  const speak = () => {
    clearTimeout(waiting);
    for (const audio of main.querySelectorAll("audio")) {
      audio.onended = null;
      audio.pause();
    }
    if (!reading) return;
    const queue = openings[now].flatMap((leaf) => [...leaf.querySelectorAll("audio")]);
    const last = now === openings.length - 1;
    // Panel by panel or not: what is read next are the words of the next opening.
    const on = () => (last ? toggleVoice() : show(now + 1, 1));
    const next = () => {
      const audio = queue.shift();
      if (!audio) {
        waiting = setTimeout(on, 900);
        return;
      }
      audio.currentTime = 0;
      audio.onended = next;
      audio.play().catch(() => { reading = false; voice.setAttribute("aria-pressed", "false"); });
    };
    if (queue.length) next();
    else waiting = setTimeout(on, 2500);
  };
  const toggleVoice = () => {
    reading = !reading;
    voice.setAttribute("aria-pressed", String(reading));
    speak();
  };
  voice?.addEventListener("click", toggleVoice);
  guide?.addEventListener("click", () => {
    guided = !guided;
    root.classList.toggle("guided", guided);
    guide.setAttribute("aria-pressed", String(guided));
    look(0);
  });

  const turn = (by) => {
    const all = guided && Math.abs(by) === 1 ? panels() : [];
    if (panel + by >= 0 && panel + by < all.length) {
      look(panel + by);
      return;
    }
    const to = Math.max(0, Math.min(now + by, openings.length - 1));
    if (to !== now) show(to, Math.sign(by));
  };
  const opening = (id) => openings.findIndex((open) => open.some((leaf) => leaf.id === id));
  const relay = () => {
    const first = openings.length ? openings[now][0].id : location.hash.slice(1);
    openings = lay();
    main.classList.toggle("spread", wide.matches);
    show(Math.max(0, opening(first)), 0);
  };

  root.classList.add("paged");
  relay();
  wide.addEventListener("change", relay);
  small.addEventListener("change", relay);
  addEventListener("hashchange", () => {
    const to = opening(location.hash.slice(1));
    if (to >= 0 && to !== now) show(to, Math.sign(to - now));
  });
  back.addEventListener("click", () => turn(-1));
  forth.addEventListener("click", () => turn(1));

  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const onButton = event.target instanceof HTMLButtonElement;
    const steps = {
      ArrowRight: rtl ? -1 : 1, ArrowLeft: rtl ? 1 : -1, PageDown: 1, PageUp: -1,
      Home: -openings.length, End: openings.length,
      " ": onButton ? undefined : event.shiftKey ? -1 : 1,
    };
    const by = steps[event.key];
    if (by === undefined) return;
    // On a page longer than the screen these keys scroll first.
    const left = by > 0 ? root.scrollHeight - innerHeight - scrollY : scrollY;
    if ([" ", "PageDown", "PageUp"].includes(event.key) && left > 4) return;
    event.preventDefault();
    turn(by);
  });

  // A swipe is quick, and more across than down; pinches and text selections are not swipes.
  let from = null;
  main.addEventListener("touchstart", (event) => {
    const touch = event.touches[0];
    from = event.touches.length === 1 ? { x: touch.clientX, y: touch.clientY } : null;
  }, { passive: true });
  main.addEventListener("touchend", (event) => {
    if (!from) return;
    const across = event.changedTouches[0].clientX - from.x;
    const down = event.changedTouches[0].clientY - from.y;
    from = null;
    const zoomed = window.visualViewport && window.visualViewport.scale > 1.05;
    if (zoomed || Math.abs(across) < 45 || Math.abs(across) < 1.5 * Math.abs(down)) return;
    turn(across < 0 !== rtl ? 1 : -1);
  }, { passive: true });
})();
