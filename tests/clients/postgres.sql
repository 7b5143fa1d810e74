-- The tables of Otus, in PostgreSQL. Their rows are read from the same lines, by PostgreSQL itself.

CREATE TABLE wikipedia (
    time timestamptz NOT NULL, channel text, city_name text, comment text, country_iso_code text, country_name text,
    is_anonymous boolean, is_minor boolean, is_new boolean, is_robot boolean, is_unpatrolled boolean,
    metro_code integer, namespace text, page text, region_iso_code text, region_name text, editor text,
    delta bigint, added bigint, deleted bigint
);
COMMENT ON TABLE wikipedia IS 'Wikipedia edits of one day';

CREATE TABLE kinds (
    n bigint, at timestamptz NOT NULL, flag boolean, small smallint, whole integer, large bigint, narrow real,
    wide double precision, exact numeric(20, 4), words text, id uuid, day date, plain timestamp, raw bytea,
    document jsonb, tags text[], numbers bigint[]
);
COMMENT ON TABLE kinds IS 'A row of each type';
COMMENT ON COLUMN kinds.n IS 'Number of the row';

CREATE TABLE notes (
    at timestamptz NOT NULL, client text, n bigint, words text
);

CREATE TABLE lines (of text, n bigint GENERATED ALWAYS AS IDENTITY, line jsonb);
-- rows --
INSERT INTO wikipedia
SELECT (line->>'time')::timestamptz, line->>'channel', line->>'cityName', line->>'comment', line->>'countryIsoCode',
    line->>'countryName', (line->>'isAnonymous')::boolean, (line->>'isMinor')::boolean, (line->>'isNew')::boolean,
    (line->>'isRobot')::boolean, (line->>'isUnpatrolled')::boolean, (line->>'metroCode')::integer,
    line->>'namespace', line->>'page', line->>'regionIsoCode', line->>'regionName', line->>'user',
    (line->>'delta')::bigint, (line->>'added')::bigint, (line->>'deleted')::bigint
FROM lines WHERE of = 'wikipedia' ORDER BY lines.n;

INSERT INTO kinds
SELECT (line->>'n')::bigint, (line->>'at')::timestamptz, (line->>'flag')::boolean, (line->>'small')::smallint,
    (line->>'whole')::integer, (line->>'large')::bigint, (line->>'narrow')::real, (line->>'wide')::double precision,
    (line->>'exact')::numeric(20, 4), line->>'words', (line->>'id')::uuid, (line->>'day')::date,
    (line->>'plain')::timestamp, decode(line->>'raw', 'base64'), nullif(line->'document', 'null'),
    CASE WHEN jsonb_typeof(line->'tags') = 'array'
        THEN ARRAY(SELECT t FROM jsonb_array_elements_text(line->'tags') WITH ORDINALITY e(t, i) ORDER BY i) END,
    CASE WHEN jsonb_typeof(line->'numbers') = 'array'
        THEN ARRAY(SELECT v::bigint FROM jsonb_array_elements_text(line->'numbers') WITH ORDINALITY e(v, i) ORDER BY i) END
FROM lines WHERE of = 'kinds' ORDER BY lines.n;

DROP TABLE lines;

CREATE VIEW edits_hour AS
SELECT date_trunc('hour', time) AS bucket, channel, namespace, country_name, is_robot, is_anonymous, is_new, is_minor,
    count(*) AS edits, sum(added) AS added, sum(deleted) AS deleted, sum(delta) AS delta,
    count(DISTINCT editor) AS editors
FROM wikipedia GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;
CREATE VIEW edits_minute AS
SELECT date_trunc('minute', time) AS bucket, channel, namespace, country_name, is_robot, is_anonymous, is_new, is_minor,
    count(*) AS edits, sum(added) AS added, sum(deleted) AS deleted, sum(delta) AS delta,
    count(DISTINCT editor) AS editors
FROM wikipedia GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;
CREATE VIEW edits_day AS
SELECT date_trunc('day', time) AS bucket, channel, namespace, country_name, is_robot, is_anonymous, is_new, is_minor,
    count(*) AS edits, sum(added) AS added, sum(deleted) AS deleted, sum(delta) AS delta,
    count(DISTINCT editor) AS editors
FROM wikipedia GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;
ANALYZE;
