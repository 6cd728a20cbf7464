'use strict';
// Every x is given in pixels of the first scale; zooming multiplies them, and leaves heights, texts and marks as they are.
const svg = document.getElementById('lanes'), scroll = document.getElementById('scroll');
const from = Number(svg.dataset.from), span = Number(svg.dataset.ms), first = Number(svg.dataset.scale);
const number = (element, name) => Number(element.getAttribute(name));
const stretched = [...svg.querySelectorAll('.s')].map(element => {
  const names = element.tagName === 'line' ? ['x1', 'x2'] : ['x', 'width'];
  return [element, names.map(name => [name, number(element, name)])];
});
const points = [...svg.querySelectorAll('.p')].map(element => {
  const [x, y] = element.getAttribute('transform').slice('translate('.length, -1).split(',').map(Number);
  return [element, x, y];
});
const axis = document.getElementById('axis');
let scale = first;

function ticks() {
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 60000]
    .find(one => one * scale >= 90) || 600000;
  const digits = step < 1 ? 4 : 3;
  let marks = '';
  for (let at = Math.ceil(from / step); at * step <= from + span; at++) {
    const x = (at * step - from) * scale;
    marks += `<line class="grid" x1="${x}" x2="${x}" y1="16" y2="${svg.getAttribute('height')}"/>`
      + `<text class="dim" x="${x + 3}" y="12">${(at * step / 1000).toFixed(digits)}</text>`;
  }
  axis.innerHTML = marks;
}

function zoom(to, around) {
  const middle = around === undefined ? scroll.clientWidth / 2 : around;
  const time = (scroll.scrollLeft + middle) / scale;
  // Never narrower than a glance, nor wider than a browser can draw.
  scale = Math.max(Math.min(to, 200, 4e6 / span), 300 / span);
  const factor = scale / first;
  svg.setAttribute('width', Math.ceil(span * scale));
  for (const [element, values] of stretched) for (const [name, value] of values) element.setAttribute(name, value * factor);
  for (const [element, x, y] of points) element.setAttribute('transform', `translate(${x * factor},${y})`);
  ticks();
  scroll.scrollLeft = time * scale - middle;
}

document.getElementById('in').onclick = () => zoom(scale * 1.6);
document.getElementById('out').onclick = () => zoom(scale / 1.6);
document.getElementById('fit').onclick = () => zoom(scroll.clientWidth / span);
document.getElementById('end').onclick = () => { scroll.scrollLeft = span * scale; };
scroll.addEventListener('wheel', event => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  zoom(scale * Math.exp(-event.deltaY / 300), event.clientX - scroll.getBoundingClientRect().left);
}, { passive: false });
for (const box of document.querySelectorAll('[data-class]'))
  box.onchange = () => svg.classList.toggle('no-' + box.dataset.class, !box.checked);
const cursor = document.getElementById('cursor'), when = document.getElementById('when');
svg.addEventListener('mousemove', event => {
  const x = event.clientX - svg.getBoundingClientRect().left;
  cursor.setAttribute('x1', x);
  cursor.setAttribute('x2', x);
  cursor.style.visibility = 'visible';
  when.textContent = ((from + Math.min(x / scale, span)) / 1000).toFixed(6) + ' s';
});
// The end is where the failure is.
scroll.scrollLeft = span * scale;
