// The before/after slider: the range's value moves the edge.
for (const slider of document.querySelectorAll(".slider")) {
  const range = slider.querySelector("input");
  const move = () => slider.style.setProperty("--at", range.value + "%");
  range.addEventListener("input", move);
  move();
}
