-- The tables of these statements in PostgreSQL; Otus has the same from its configuration.
CREATE TABLE things (
    id integer, at timestamptz, plain timestamp, day date, flag boolean, small smallint, n integer, big bigint,
    narrow real, x double precision, price numeric(12,2), name text, kind text, uid uuid, doc jsonb, tags text[],
    nums integer[], raw bytea
);
CREATE TABLE wikipedia (
    "time" timestamptz, channel text, city_name text, comment text, country_iso_code text, country_name text,
    is_anonymous boolean, is_minor boolean, is_new boolean, is_robot boolean, is_unpatrolled boolean,
    metro_code integer, namespace text, page text, region_iso_code text, region_name text, editor text,
    delta bigint, added bigint, deleted bigint
);
CREATE TABLE lines (line jsonb);
