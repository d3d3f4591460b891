-- An in-memory database: filled by arithmetic, indexed, joined, grouped, updated.
CREATE TABLE events (id INTEGER PRIMARY KEY, key INTEGER, kind TEXT, amount REAL, note TEXT);
CREATE TABLE keys (key INTEGER PRIMARY KEY, name TEXT, parent INTEGER);

WITH RECURSIVE n(i, r) AS (
  SELECT 1, 12345 UNION ALL SELECT i + 1, (r * 1103515245 + 12345) % 2147483648 FROM n WHERE i < @KEYS@)
INSERT INTO keys SELECT i, 'key-' || (r % 9973) || '-' || i, r % i FROM n;

BEGIN;
WITH RECURSIVE n(i, r) AS (
  SELECT 1, 42 UNION ALL SELECT i + 1, (r * 1103515245 + 12345) % 2147483648 FROM n WHERE i < @ROWS@)
INSERT INTO events
SELECT i, (r >> 3) % @KEYS@, CASE r % 4 WHEN 0 THEN 'open' WHEN 1 THEN 'read' WHEN 2 THEN 'write' ELSE 'close' END,
       (r % 100000) / 7.0, substr('the quick brown fox jumps over the lazy dog', r % 20, 12) || i
FROM n;
COMMIT;

CREATE INDEX events_key ON events (key, kind);
CREATE INDEX events_note ON events (note);

SELECT kind, count(*), round(sum(amount), 2), min(note), max(note) FROM events GROUP BY kind ORDER BY kind;
SELECT k.name, count(*) c, round(avg(e.amount), 3) FROM events e JOIN keys k ON k.key = e.key
  GROUP BY k.name ORDER BY c DESC, k.name LIMIT 20;
SELECT count(*) FROM events e JOIN keys k ON k.key = e.key JOIN keys p ON p.key = k.parent
  WHERE p.name LIKE '%7-1%' AND e.kind <> 'close';
SELECT substr(note, 1, 3) p, count(DISTINCT key), total(amount) > 1000 FROM events GROUP BY p ORDER BY p LIMIT 30;
UPDATE events SET amount = amount * 1.5, note = upper(note) WHERE key % 7 = 3;
DELETE FROM events WHERE id % 11 = 5;
SELECT count(*), round(sum(amount), 2), sum(length(note)), sum(unicode(note)) FROM events;
SELECT key, rank() OVER (ORDER BY s DESC, key) FROM (SELECT key, sum(amount) s FROM events GROUP BY key) LIMIT 10;
