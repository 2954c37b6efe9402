// What htmx does not do: say the slider's place in words, and put the focus where things changed.
(function () {
  "use strict";

  function sayBoost() {
    const slider = document.getElementById("boost");
    if (!slider) return;
    const said = slider.dataset.said.split("|");
    slider.setAttribute("aria-valuetext", said[Math.round(Number(slider.value) * 2)] || slider.value);
  }

  document.addEventListener("input", function (event) {
    if (event.target.id === "boost") sayBoost();
  });
  document.addEventListener("DOMContentLoaded", function () {
    sayBoost();
    const done = document.getElementById("done");
    if (done) done.focus();
    const current = document.querySelector(".side nav [aria-current]");
    // Not scrollIntoView, after which the first press of Tab would begin there.
    const nav = current && current.closest("nav");
    if (nav) nav.scrollLeft += current.getBoundingClientRect().left - nav.clientWidth / 3;
  });
})();
