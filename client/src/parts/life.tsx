// From when to when something was there, as a bar over the run.

interface Properties {
  from: number;
  to: number;
  now: number;
  total: number;
  colour: string;
}

/** Shorter than this it could not be seen, in percent of the run. */
const WIDTH_MIN = 0.6;

export function Life({ from, to, now, total, colour }: Properties) {
  const left = (from / total) * 100;
  const width = Math.max(WIDTH_MIN, ((to - from) / total) * 100);
  return (
    <span class="life">
      <span class="life-bar" style={{ left: `${left}%`, width: `${width}%`, background: colour }} />
      <span class="life-now" style={{ left: `${(now / total) * 100}%` }} />
    </span>
  );
}
