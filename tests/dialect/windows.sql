-- Numbering.
SELECT id, row_number() OVER (ORDER BY id DESC) FROM things ORDER BY id LIMIT 3;
SELECT kind, id, row_number() OVER (PARTITION BY kind ORDER BY id) AS r FROM things ORDER BY kind, id LIMIT 8;
SELECT name, rank() OVER (ORDER BY name), dense_rank() OVER (ORDER BY name) FROM things ORDER BY name, id LIMIT 8;
SELECT id, percent_rank() OVER (ORDER BY n), cume_dist() OVER (ORDER BY n) FROM things ORDER BY id LIMIT 5;
SELECT id, ntile(4) OVER (ORDER BY id) FROM things ORDER BY id;
SELECT * FROM (SELECT kind, id, rank() OVER (PARTITION BY kind ORDER BY n DESC NULLS LAST, id) AS r FROM things) s WHERE r <= 2 ORDER BY kind, r;
-- Neighbours.
SELECT id, lag(n) OVER (ORDER BY id), lead(n, 2) OVER (ORDER BY id), lag(n, 1, 0) OVER (ORDER BY id) FROM things ORDER BY id LIMIT 6;
SELECT id, at - lag(at) OVER (ORDER BY at) AS gap FROM things ORDER BY id LIMIT 4;
SELECT id, first_value(name) OVER w, last_value(name) OVER w, nth_value(name, 2) OVER w FROM things WINDOW w AS (PARTITION BY kind ORDER BY id) ORDER BY id LIMIT 8;
SELECT id, first_value(n) OVER (ORDER BY id), last_value(n) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) FROM things ORDER BY id LIMIT 3;
SELECT kind, id, lag(name, 1, 'none') OVER (PARTITION BY kind ORDER BY id) FROM things ORDER BY kind, id LIMIT 6;
-- Sums over frames.
SELECT id, sum(n) OVER (ORDER BY id) FROM things ORDER BY id LIMIT 6;
SELECT id, sum(price) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING), count(*) OVER () FROM things ORDER BY id LIMIT 6;
SELECT id, avg(n) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM things ORDER BY id LIMIT 8;
SELECT id, sum(id) OVER (ORDER BY id ROWS BETWEEN 1 FOLLOWING AND 2 FOLLOWING) FROM things ORDER BY id DESC LIMIT 4;
SELECT id, count(*) OVER (ORDER BY id RANGE BETWEEN 3 PRECEDING AND 3 FOLLOWING) FROM things ORDER BY id LIMIT 6;
SELECT id, count(*) OVER (ORDER BY at RANGE BETWEEN interval '1 day' PRECEDING AND CURRENT ROW) FROM things ORDER BY id LIMIT 8;
SELECT id, count(*) OVER (ORDER BY day RANGE BETWEEN interval '7 days' PRECEDING AND interval '1 day' FOLLOWING) FROM things WHERE day IS NOT NULL ORDER BY id LIMIT 6;
SELECT name, count(*) OVER (ORDER BY name GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM things ORDER BY name, id LIMIT 8;
SELECT id, sum(id) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND 2 FOLLOWING EXCLUDE CURRENT ROW) FROM things ORDER BY id LIMIT 5;
SELECT kind, sum(n) OVER (PARTITION BY kind) FROM things ORDER BY kind, id LIMIT 5;
SELECT id, max(n) OVER (PARTITION BY flag ORDER BY id), min(n) OVER (PARTITION BY flag ORDER BY id) FROM things ORDER BY id LIMIT 6;
SELECT id, string_agg(name, ',') OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM things ORDER BY id LIMIT 4;
SELECT id, array_agg(id) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM things ORDER BY id LIMIT 4;
SELECT id, count(*) FILTER (WHERE flag) OVER (ORDER BY id) FROM things ORDER BY id LIMIT 6;
SELECT id, sum(n) OVER (ORDER BY flag NULLS FIRST, id DESC) FROM things ORDER BY id LIMIT 4;
SELECT id, bool_or(flag) OVER (ORDER BY id) FROM things ORDER BY id LIMIT 4;
-- Over groups.
SELECT kind, count(*), sum(count(*)) OVER (ORDER BY kind) AS running FROM things GROUP BY kind ORDER BY kind;
SELECT kind, count(*), rank() OVER (ORDER BY count(*) DESC, kind) FROM things GROUP BY kind ORDER BY 3;
SELECT date_trunc('day', at) AS d, count(*), count(*) - lag(count(*)) OVER (ORDER BY date_trunc('day', at)) AS change FROM things GROUP BY 1 ORDER BY 1 LIMIT 5;
SELECT kind, round(count(*) * 100.0 / sum(count(*)) OVER (), 2) AS pct FROM things GROUP BY kind ORDER BY kind;
SELECT kind, n, n - avg(n) OVER (PARTITION BY kind) AS diff FROM things WHERE n IS NOT NULL ORDER BY kind, id LIMIT 5;
SELECT id, row_number() OVER () > 0 FROM things ORDER BY id LIMIT 2;
SELECT id, sum(n) OVER w1, count(*) OVER w2 FROM things WINDOW w1 AS (ORDER BY id), w2 AS (w1 ROWS 1 PRECEDING) ORDER BY id LIMIT 4;
SELECT sum(n) OVER (ORDER BY id) / count(*) OVER (ORDER BY id) FROM things ORDER BY id LIMIT 4;
SELECT DISTINCT first_value(id) OVER (PARTITION BY kind ORDER BY id) AS f FROM things ORDER BY f;
SELECT id FROM things ORDER BY row_number() OVER (ORDER BY n DESC NULLS LAST, id) LIMIT 3;
