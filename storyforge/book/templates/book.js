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
    if (turning) {
      scrollTo(0, 0);
      history.replaceState(null, "", `#${open[0].id}`);
    }
  };
  const turn = (by) => {
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
    if (to >= 0) show(to, 0);
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
