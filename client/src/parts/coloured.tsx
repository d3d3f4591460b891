// The text of a value, coloured by what its parts are: numbers, strings, addresses, words.

const PART =
  /([LuU8]*"(?:[^"\\]|\\.)*"?|[LuUb]?'(?:[^'\\]|\\.)+'|\b0x[0-9a-f]+\b|-?\b\d[\w.]*(?:e[+-]\d+)?|\b(?:true|false|nullptr|null|NULL|None)\b)/g;

function kindOf(part: string): string {
  if (/^[LuU8]*"/.test(part) || /^[LuUb]?'/.test(part)) return "string";
  if (/^0x/.test(part)) return "address";
  return /^-?\d/.test(part) ? "number" : "keyword";
}

/** Longer texts are cut: nobody reads them in a row. */
const LENGTH_MAX = 400;

export function Coloured({ text }: { text: string }) {
  const cut = text.length > LENGTH_MAX ? `${text.slice(0, LENGTH_MAX)}…` : text;
  return (
    <>
      {cut.split(PART).map((part, n) =>
        // What the pattern caught lies at odd places.
        n % 2 === 1 ? (
          <span key={n} class={`v-${kindOf(part)}`}>
            {part}
          </span>
        ) : (
          part
        ),
      )}
    </>
  );
}
