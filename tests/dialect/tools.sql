-- What people and programs ask of events.
-- Grafana.
SELECT floor(extract(epoch FROM "time") / 300) * 300 AS "time", count(*) AS value FROM wikipedia WHERE "time" BETWEEN '2015-09-12T01:00:00Z' AND '2015-09-12T02:00:00Z' GROUP BY 1 ORDER BY 1;
SELECT "time" AS "time", channel AS metric, added AS value FROM wikipedia WHERE extract(epoch FROM "time") BETWEEN 1442019600 AND 1442019700 ORDER BY 1, 2, 3;
SELECT date_trunc('minute', "time") AS "time", sum(added) AS "added" FROM wikipedia WHERE "time" >= to_timestamp(1442019600) AND "time" <= to_timestamp(1442020000) GROUP BY 1 ORDER BY 1;
SELECT to_timestamp((extract(epoch FROM "time")::bigint / 600) * 600) AS t, count(*) FROM wikipedia GROUP BY t ORDER BY t LIMIT 4;
SELECT extract(epoch FROM "time")::bigint / 3600 * 3600 AS t, count(*) FROM wikipedia GROUP BY 1 ORDER BY 1 LIMIT 3;
SELECT DISTINCT channel FROM wikipedia ORDER BY channel LIMIT 5;
SELECT "time" + '5 minutes'::interval AS t FROM wikipedia ORDER BY "time" LIMIT 1;
-- Metabase.
SELECT CAST(date_trunc('day', "public"."wikipedia"."time") AS date) AS "time", count(*) AS "count" FROM "public"."wikipedia" GROUP BY CAST(date_trunc('day', "public"."wikipedia"."time") AS date) ORDER BY CAST(date_trunc('day', "public"."wikipedia"."time") AS date) ASC;
SELECT (CAST(date_trunc('week', CAST((CAST("source"."time" AS timestamp) + (INTERVAL '1 day')) AS timestamp)) AS timestamp) + (INTERVAL '-1 day')) AS "time", SUM("source"."added") AS "sum" FROM (SELECT "public"."wikipedia"."time" AS "time", "public"."wikipedia"."added" AS "added" FROM "public"."wikipedia") AS "source" GROUP BY 1 ORDER BY 1 ASC;
SELECT "public"."things"."kind" AS "kind", PERCENTILE_CONT(0.5) within group (order by "public"."things"."n") AS "median" FROM "public"."things" GROUP BY "public"."things"."kind" ORDER BY "public"."things"."kind" ASC;
SELECT CAST(extract(dow from "public"."things"."at") AS integer) + 1 AS "dow", count(*) FROM "public"."things" GROUP BY 1 ORDER BY 1;
SELECT FLOOR((("public"."things"."n" - 0.0) / 100.0)) * 100.0 + 0.0 AS "n", count(*) AS "count" FROM "public"."things" GROUP BY 1 ORDER BY 1;
SELECT "public"."things"."name" AS "name" FROM "public"."things" WHERE (LOWER("public"."things"."name") LIKE '%o%') GROUP BY "public"."things"."name" ORDER BY "public"."things"."name" ASC LIMIT 10;
SELECT count(distinct "public"."wikipedia"."editor") AS "count", CAST(SUM(CASE WHEN "is_robot" THEN 1 ELSE 0.0 END) AS float) / NULLIF(COUNT(*), 0) AS "share" FROM "public"."wikipedia";
SELECT * FROM (SELECT "source"."kind" AS "kind", count(*) AS "count" FROM (SELECT * FROM "public"."things") AS "source" GROUP BY "source"."kind") q WHERE q."count" > 3 ORDER BY 1 LIMIT 1048575;
SELECT SUM(SUM("public"."things"."n")) OVER (ORDER BY DATE_TRUNC('week', "public"."things"."at") ASC ROWS UNBOUNDED PRECEDING) AS "sum" FROM "public"."things" GROUP BY DATE_TRUNC('week', "public"."things"."at") ORDER BY 1;
SELECT avg("public"."things"."price") AS "avg", STDDEV_POP("public"."things"."x") AS "sd" FROM "public"."things" WHERE "public"."things"."at" >= timestamp with time zone '2026-01-01 00:00:00.000Z' AND "public"."things"."at" < timestamp with time zone '2027-01-01 00:00:00.000Z';
SELECT CAST("public"."things"."n" AS float) / 3 AS "third", "public"."things"."n" / NULLIF(2, 0) AS "half" FROM "public"."things" WHERE "public"."things"."id" = 1;
-- Superset.
SELECT DATE_TRUNC('hour', "time") AS __timestamp, channel AS channel, sum(added) AS "SUM(added)" FROM wikipedia JOIN (SELECT channel AS channel__, sum(added) AS mme_inner__ FROM wikipedia WHERE "time" >= TO_TIMESTAMP('2015-09-12 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') AND "time" < TO_TIMESTAMP('2015-09-13 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') GROUP BY channel ORDER BY mme_inner__ DESC LIMIT 2) AS anon_1 ON channel = channel__ WHERE "time" >= TO_TIMESTAMP('2015-09-12 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') AND "time" < TO_TIMESTAMP('2015-09-12 04:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') GROUP BY DATE_TRUNC('hour', "time"), channel ORDER BY "SUM(added)" DESC LIMIT 10000;
SELECT DATE_TRUNC('minute', "time") + INTERVAL '5 minutes' * FLOOR(EXTRACT(MINUTE FROM "time") / 5) - INTERVAL '1 minute' * EXTRACT(MINUTE FROM "time") AS t, count(*) FROM wikipedia GROUP BY 1 ORDER BY 1 LIMIT 3;
SELECT DATE_TRUNC('second', "time") + INTERVAL '5 seconds' * FLOOR(EXTRACT(SECOND FROM "time") / 5) AS t, count(*) FROM wikipedia GROUP BY t ORDER BY t LIMIT 3;
SELECT channel AS channel, COUNT(*) AS count, COUNT(DISTINCT editor) AS "COUNT_DISTINCT(editor)" FROM wikipedia GROUP BY channel ORDER BY count DESC, channel LIMIT 5;
SELECT COUNT(*) AS rowcount FROM (SELECT channel FROM wikipedia GROUP BY channel) AS rowcount_qry;
SELECT min("time") AS "MIN(time)", max("time") AS "MAX(time)" FROM wikipedia LIMIT 1;
SELECT country_name AS country_name, SUM(CASE WHEN is_new THEN 1 ELSE 0 END) AS new FROM wikipedia WHERE country_name IN ('Germany', 'France') GROUP BY country_name ORDER BY new DESC, country_name;
SELECT DATE_TRUNC('day', at) AS __timestamp, sum(n) AS n, sum(price) AS p FROM things WHERE (kind IN ('red') OR kind IS NULL) GROUP BY DATE_TRUNC('day', at) ORDER BY n DESC NULLS LAST, 1 LIMIT 5;
SELECT * FROM (SELECT id, kind FROM things LIMIT 100) AS virtual_table WHERE id <= 2 ORDER BY id LIMIT 1000;
-- Tableau.
SELECT CAST("things"."kind" AS TEXT) AS "kind", SUM("things"."n") AS "sum:n:ok" FROM "public"."things" "things" GROUP BY 1 ORDER BY 1;
SELECT DATE_TRUNC( 'MONTH', CAST("things"."at" AS TIMESTAMP) ) AS "tmn:at:ok", COUNT(1) AS "cnt" FROM "public"."things" "things" GROUP BY 1 ORDER BY 1;
SELECT CAST(TRUNC(EXTRACT(YEAR FROM "things"."at")) AS INTEGER) AS "yr:at:ok", AVG(CAST("things"."n" AS DOUBLE PRECISION)) AS "avg" FROM "public"."things" "things" GROUP BY 1;
SELECT CAST(FLOOR((EXTRACT(MONTH FROM "things"."at") - 1) / 3 + 1) AS INTEGER) AS "qr", SUM(1) AS "n" FROM "public"."things" "things" GROUP BY 1 ORDER BY 1;
SELECT (CASE WHEN 0 = 0 THEN NULL ELSE CAST(1 AS DOUBLE PRECISION) / 0 END) AS c;
SELECT CAST((DATE '1899-12-30' + 46000) AS DATE) AS d, (CAST("at" AS DATE) - 30 * INTERVAL '1 DAY') AS t FROM things WHERE id = 1;
SELECT SUM(CASE WHEN "things"."flag" THEN "things"."n" ELSE NULL END) AS "s", (CASE WHEN SUM(1) = 0 THEN NULL ELSE SUM("things"."n") / SUM(1) END) AS r FROM "public"."things" "things" HAVING COUNT(1) > 0;
SELECT "t0"."kind" AS "kind", "t0"."m" AS "m" FROM (SELECT "kind", MAX("n") AS "m" FROM "things" GROUP BY 1) "t0" INNER JOIN (SELECT "kind" FROM "things" GROUP BY 1 HAVING COUNT(1) > 2) "t1" ON ("t0"."kind" IS NOT DISTINCT FROM "t1"."kind") ORDER BY 1;
-- Power BI.
select "$Table"."id" as "id", "$Table"."kind" as "kind" from "public"."things" "$Table" order by "id" limit 2;
select "rows"."kind" as "kind", sum(cast("rows"."n" as decimal)) as "a0", count(*) as "a1" from (select "_"."kind", "_"."n" from "public"."things" "_" where "_"."at" >= timestamp '2026-01-01 00:00:00' and "_"."at" < timestamp '2027-01-01 00:00:00') "rows" group by "kind" order by 1;
select "_"."kind", "_"."a0" from (select "rows"."kind" as "kind", count(distinct "rows"."name") + max(case when "rows"."name" is null then 1 else 0 end) as "a0" from "public"."things" "rows" group by "kind") "_" where not "_"."a0" is null order by 1 limit 1000001;
select case when strpos("_"."name", 'o') > 0 then 1 else 0 end as "c1" from "public"."things" "_" where "_"."id" < 4 order by "_"."id";
-- Looker and its symmetric aggregates.
SELECT things.kind AS "things.kind", COUNT(DISTINCT things.id) AS "things.count", COALESCE(SUM(things.n), 0) AS "things.total" FROM public.things AS things GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 500;
SELECT COALESCE(COALESCE(CAST((SUM(DISTINCT (CAST(FLOOR(COALESCE(t.n, 0) * (1000000 * 1.0)) AS DECIMAL(65, 0))) + ('x' || MD5(t.id::varchar))::bit(64)::bigint::DECIMAL(65) * 18446744073709551616 + ('x' || SUBSTR(MD5(t.id::varchar), 17))::bit(64)::bigint::DECIMAL(65)) - SUM(DISTINCT ('x' || MD5(t.id::varchar))::bit(64)::bigint::DECIMAL(65) * 18446744073709551616 + ('x' || SUBSTR(MD5(t.id::varchar), 17))::bit(64)::bigint::DECIMAL(65))) AS DOUBLE PRECISION) / CAST((1000000 * 1.0) AS DOUBLE PRECISION), 0), 0) AS total FROM things t;
SELECT (DATE(things.at AT TIME ZONE 'UTC' AT TIME ZONE 'America/Los_Angeles')) AS "things.at_date", COUNT(*) AS "things.count" FROM public.things AS things WHERE ((things.at) >= (TIMESTAMP '2026-02-01') AND (things.at) < (TIMESTAMP '2026-03-01')) GROUP BY 1 ORDER BY 1 DESC LIMIT 5;
SELECT TO_CHAR(DATE_TRUNC('week', things.at), 'YYYY-MM-DD') AS w, CASE WHEN COUNT(*) <> 0 THEN SUM(n)::float / COUNT(*) END AS per FROM things GROUP BY DATE_TRUNC('week', things.at) ORDER BY 1;
SELECT CASE WHEN things.n < 100 THEN '00' WHEN things.n >= 100 AND things.n < 300 THEN '01' ELSE 'ZZ' END AS "tier__sort_", COUNT(*) FROM things GROUP BY 1 ORDER BY 1;
-- DBeaver, psql and other people.
SELECT x.* FROM public.things x WHERE x.id = 7;
SELECT t.id, t.name FROM things t ORDER BY t.id DESC LIMIT 3 OFFSET 1;
SELECT count(*) FROM (SELECT * FROM wikipedia WHERE namespace = 'Main') dbvrcnt;
SELECT current_database(), current_schema(), current_schema;
SELECT current_setting('server_version_num')::int / 10000 >= 10, current_setting('TimeZone');
SELECT current_setting('nothing.here', true), current_setting('server_encoding'), current_setting('standard_conforming_strings');
SELECT version() LIKE 'PostgreSQL%', pg_backend_pid() > 0, current_user = session_user, user = current_user;
SELECT pg_size_pretty(123456789::bigint), pg_is_in_recovery();
SELECT 'ping';
SELECT 1 AS ok;
SELECT channel, sum(added) AS added, sum(deleted) AS deleted FROM wikipedia GROUP BY channel ORDER BY added DESC LIMIT 5;
SELECT country_name, count(*) AS edits, sum(added)::float8 / count(*) AS per_edit FROM wikipedia WHERE country_name IS NOT NULL GROUP BY country_name HAVING count(*) > 100 ORDER BY edits DESC, country_name;
SELECT date_trunc('hour', "time") AS h, count(*) FILTER (WHERE is_robot) AS robots, count(*) FILTER (WHERE NOT is_robot) AS people FROM wikipedia GROUP BY h ORDER BY h LIMIT 6;
SELECT page, count(*) FROM wikipedia WHERE namespace = 'Main' GROUP BY page ORDER BY count(*) DESC, page LIMIT 5;
SELECT channel, percentile_disc(0.5) WITHIN GROUP (ORDER BY delta), percentile_cont(0.9) WITHIN GROUP (ORDER BY added) FROM wikipedia GROUP BY channel ORDER BY channel LIMIT 5;
SELECT channel, page, n FROM (SELECT channel, page, count(*) AS n, row_number() OVER (PARTITION BY channel ORDER BY count(*) DESC, page) AS r FROM wikipedia GROUP BY channel, page) s WHERE r = 1 AND n > 5 ORDER BY n DESC, channel LIMIT 5;
SELECT h, edits, sum(edits) OVER (ORDER BY h) AS so_far FROM (SELECT extract(hour FROM "time") AS h, count(*) AS edits FROM wikipedia GROUP BY 1) s ORDER BY h LIMIT 4;
SELECT is_robot, is_new, count(*), round(avg(added), 3) FROM wikipedia GROUP BY ROLLUP (is_robot, is_new) ORDER BY 1, 2;
SELECT avg(added), avg(delta), sum(delta), max(added) FROM wikipedia WHERE channel = '#de.wikipedia';
SELECT count(*), count(country_name), count(DISTINCT country_name) FROM wikipedia;
SELECT metro_code, count(*) FROM wikipedia WHERE metro_code IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3;
WITH hourly AS (SELECT date_trunc('hour', "time") AS h, channel, count(*) AS n FROM wikipedia GROUP BY 1, 2), ranked AS (SELECT *, rank() OVER (PARTITION BY h ORDER BY n DESC, channel) AS r FROM hourly) SELECT h, channel, n FROM ranked WHERE r = 1 ORDER BY h LIMIT 5;
SELECT editor, min("time"), max("time"), max("time") - min("time") AS span, count(*) FROM wikipedia WHERE NOT is_robot GROUP BY editor ORDER BY count(*) DESC, editor LIMIT 3;
SELECT length(comment) / 50 * 50 AS size, count(*) FROM wikipedia GROUP BY 1 ORDER BY 1 LIMIT 4;
SELECT CASE WHEN delta < 0 THEN 'removed' WHEN delta > 0 THEN 'added' ELSE 'same' END AS what, count(*), sum(delta), round(avg(delta), 2) FROM wikipedia GROUP BY 1 ORDER BY 1;
SELECT regexp_replace(channel, '^#(\w+)\..*', '\1') AS lang, sum(added) FROM wikipedia GROUP BY 1 ORDER BY 2 DESC LIMIT 4;
SELECT count(*) FROM wikipedia WHERE comment ILIKE '%revert%' AND page !~ ':';
SELECT string_agg(DISTINCT country_iso_code, ',' ORDER BY country_iso_code) FROM wikipedia WHERE region_name LIKE 'S%';
SELECT a.channel, a.n, b.n FROM (SELECT channel, count(*) n FROM wikipedia WHERE is_robot GROUP BY 1) a JOIN (SELECT channel, count(*) n FROM wikipedia WHERE NOT is_robot GROUP BY 1) b USING (channel) ORDER BY a.n DESC LIMIT 3;
SELECT corr(added, deleted), covar_pop(added, deleted), regr_slope(added, deleted) FROM wikipedia;
SELECT variance(added), stddev(delta) FROM wikipedia;
SELECT width_bucket(added, 0, 1000, 4) AS b, count(*) FROM wikipedia GROUP BY b ORDER BY b;
SELECT s.h, coalesce(w.n, 0) FROM generate_series(timestamptz '2015-09-12 00:00Z', '2015-09-12 03:00Z', '1 hour') AS s(h) LEFT JOIN (SELECT date_trunc('hour', "time") AS h, count(*) AS n FROM wikipedia GROUP BY 1) w ON w.h = s.h ORDER BY 1;
SELECT to_char("time", 'HH24:MI') AS minute, count(*) FROM wikipedia GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3;
SELECT "time"::date AS day, count(DISTINCT editor) FILTER (WHERE is_anonymous) AS anonymous FROM wikipedia GROUP BY "time"::date;
