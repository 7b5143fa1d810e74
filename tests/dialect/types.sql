-- What a thing is.
SELECT pg_typeof(1), pg_typeof(1.5), pg_typeof('a'), pg_typeof(NULL), pg_typeof(true), pg_typeof('a'::text), pg_typeof(2147483648);
SELECT pg_typeof(n), pg_typeof(big), pg_typeof(small), pg_typeof(price), pg_typeof(x), pg_typeof(narrow), pg_typeof(name), pg_typeof(uid), pg_typeof(doc), pg_typeof(tags), pg_typeof(nums), pg_typeof(raw), pg_typeof(at), pg_typeof(plain), pg_typeof(day), pg_typeof(flag) FROM things WHERE id = 1;
SELECT pg_typeof(sum(n)), pg_typeof(sum(big)), pg_typeof(avg(n)), pg_typeof(avg(x)), pg_typeof(count(*)), pg_typeof(sum(price)), pg_typeof(sum(narrow)), pg_typeof(max(small)) FROM things;
SELECT pg_typeof(n / 2), pg_typeof(n / 2.0), pg_typeof(n * x), pg_typeof(price * 2), pg_typeof(small + 1), pg_typeof(n + big), pg_typeof(narrow * 2) FROM things WHERE id = 1;
SELECT pg_typeof(at - at), pg_typeof(day - day), pg_typeof(day + 1), pg_typeof(day + interval '1 day'), pg_typeof(at + interval '1 day'), pg_typeof(date_trunc('day', at)), pg_typeof(date_trunc('day', day)), pg_typeof(extract(year FROM at)), pg_typeof(date_part('year', at)) FROM things WHERE id = 1;
SELECT pg_typeof(round(1.5)), pg_typeof(round(1.5::float8)), pg_typeof(floor(1.5)), pg_typeof(abs(-1)), pg_typeof(power(2, 2)), pg_typeof(sqrt(4)), pg_typeof(length('a')), pg_typeof(position('a' IN 'b'));
SELECT pg_typeof(coalesce(NULL, 1)), pg_typeof(CASE WHEN true THEN 1 ELSE 2.5 END), pg_typeof(greatest(1, 2.5)), pg_typeof(nullif(1, 2)), pg_typeof(ARRAY[1]), pg_typeof(ARRAY['a']), pg_typeof(row_number() OVER ());
SELECT pg_typeof('{}'::jsonb), pg_typeof('{}'::json), pg_typeof('{}'::jsonb -> 'a'), pg_typeof('{}'::jsonb ->> 'a'), pg_typeof(gen_random_uuid()), pg_typeof('10:00'::time), pg_typeof(interval '1 day');
SELECT 'a'::varchar, 'abcdef'::varchar(3), 'ab'::char(4), 'x'::char, 'abc'::name, 'a'::text, cast('abc' AS character varying(2));
SELECT length('ab '::char(5)), 'ab'::char(4) || 'c', 'a '::char(2) = 'a'::char(1), octet_length('a'::char(3));
-- uuid.
SELECT 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid, '{a0eebc999c0b4ef8bb6d6bb9bd380a11}'::uuid, uuid 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11';
SELECT count(*) FROM things WHERE uid = 'D23F0824-128B-4F33-8C5C-7FD0A6A3A450';
SELECT id FROM things WHERE uid IN ('d23f0824-128b-4f33-8c5c-7fd0a6a3a450', '6513270e-269e-4d37-b2a7-4de452e6b438') ORDER BY id;
SELECT id FROM things WHERE uid = 'd23f0824128b4f338c5c7fd0a6a3a450'::uuid;
SELECT count(*) FROM things WHERE uid = 'not a uuid';
SELECT uid, uid::text AS t FROM things ORDER BY uid LIMIT 3;
SELECT length(gen_random_uuid()::text), gen_random_uuid() <> gen_random_uuid(), gen_random_uuid()::text ~ '^[0-9a-f]{8}-[0-9a-f]{4}-4';
SELECT count(DISTINCT uid), min(uid::text) FROM things;
-- Nulls.
SELECT NULL = NULL, NULL IS NULL, NULL <> 1, 1 IS DISTINCT FROM NULL, NULL IS NOT DISTINCT FROM NULL, NULL AND false, NULL OR true, NOT NULL::boolean;
SELECT flag IS TRUE, flag IS NOT TRUE, flag IS FALSE, flag IS UNKNOWN, NOT flag FROM things ORDER BY id LIMIT 6;
SELECT 1 IN (1, NULL), 2 IN (1, NULL), 2 NOT IN (1, NULL), NULL IN (1);
SELECT nullif(1, 1), nullif(1, 2), coalesce(NULL, NULL, 3), coalesce(NULL::text, 'x'), num_nulls(1, NULL, NULL), num_nonnulls(1, NULL);
SELECT id, n FROM things ORDER BY n, id LIMIT 3;
SELECT id, n FROM things ORDER BY n DESC, id LIMIT 9;
SELECT id, n FROM things ORDER BY n NULLS FIRST, id LIMIT 9;
SELECT id, n FROM things ORDER BY n DESC NULLS LAST, id LIMIT 3;
SELECT id, x FROM things ORDER BY x DESC, id DESC LIMIT 9;
SELECT n IS NULL, n ISNULL, n NOTNULL FROM things ORDER BY id LIMIT 5;
SELECT count(*) FROM things WHERE n <> 100;
SELECT count(*) FROM things WHERE n IS DISTINCT FROM 619;
SELECT count(*) FROM things WHERE flag;
SELECT count(*) FROM things WHERE NOT flag;
SELECT count(*) FROM things WHERE flag = 't';
SELECT count(*) FROM things WHERE flag IS NOT TRUE;
-- CASE, coalesce and untyped literals.
SELECT CASE WHEN id = 1 THEN 'one' ELSE 'many' END FROM things ORDER BY id LIMIT 2;
SELECT CASE id WHEN 1 THEN 'one' WHEN 2 THEN 'two' END FROM things ORDER BY id LIMIT 3;
SELECT CASE WHEN id = 1 THEN 1 ELSE '2' END, CASE WHEN id = 1 THEN NULL ELSE 5 END, CASE WHEN id > 1 THEN 1 ELSE 2.5 END FROM things ORDER BY id LIMIT 2;
SELECT CASE WHEN n > 100 THEN at ELSE '2000-01-01' END FROM things ORDER BY id LIMIT 3;
SELECT CASE WHEN n > 100 THEN day END, CASE WHEN flag THEN price ELSE 0 END FROM things ORDER BY id LIMIT 3;
SELECT coalesce(n, 0), coalesce(x, 0), coalesce(price, 0), coalesce(name, ''), coalesce(flag, false), coalesce(n, '7') FROM things ORDER BY id LIMIT 8;
SELECT coalesce(uid, '00000000-0000-0000-0000-000000000000') FROM things ORDER BY id LIMIT 5;
SELECT greatest(n, '100'), least(day, '2026-01-20') FROM things ORDER BY id LIMIT 3;
SELECT nullif(n, '619'), nullif(day, '2026-01-28') FROM things ORDER BY id LIMIT 2;
SELECT 'abc' AS t UNION ALL SELECT NULL;
SELECT NULL AS n UNION ALL SELECT 1;
SELECT 1 AS n UNION ALL SELECT 2.5;
SELECT '2026-03-01' AS d UNION ALL SELECT day FROM things WHERE id = 2;
SELECT n = '619', price = '-158.23', flag = 'false', day = '2026-01-28', at > '2026-01-01', big > '5' FROM things WHERE id = 1;
SELECT '5' + 1, '2.5' * 2.0, '10' / 4, 1 + '2';
SELECT date '2026-03-01' - '2026-02-01', timestamp '2026-03-01' - '2026-02-01';
-- Rows.
SELECT (1, 2) = (1, 2), (1, 2) < (1, 3), (1, 'b') > (1, 'a'), ROW(1, 2) <> ROW(2, 1), (1, NULL) = (1, NULL), (1, 2) IS NULL, ROW(NULL, NULL) IS NULL;
SELECT id FROM things WHERE (kind, flag) = ('red', true) ORDER BY id LIMIT 3;
SELECT id FROM things WHERE (kind, flag) IN (('red', true), ('blue', false)) AND id < 12 ORDER BY id;
SELECT id FROM things WHERE (id, kind) > (10, 'green') ORDER BY id, kind LIMIT 3;
SELECT id FROM things WHERE (id, kind) NOT IN ((1, 'green'), (2, 'blue')) ORDER BY id LIMIT 3;
SELECT (1, 2) IS DISTINCT FROM (1, NULL), (1, 2) BETWEEN (1, 1) AND (1, 3);
-- Text of values in casts.
SELECT '  7 '::int, '1e2'::float8, 'yes'::boolean, 'off'::boolean, 'T'::boolean, '.5'::numeric, '+3'::int, '-0'::float8, 'inf'::float8;
SELECT '2026-3-1'::date, '20260301T102030'::timestamp, '2026-03-01 10:20:30+05:30'::timestamptz, '2026-03-01 10:20:30 +02'::timestamptz, '1999-01-08 04:05:06 PM'::timestamp;
SELECT '08-Jan-1999'::date, 'Jan 8 1999'::date, 'today'::date = current_date, 'now'::timestamptz <= now();
SELECT '\xDEADBEEF'::bytea, 'abc'::bytea, '\x'::bytea, raw FROM things WHERE id = 1;
SELECT 1::text::varchar::int, '5'::int::float8::text, 5::char, '1'::boolean::int;
SELECT '192.168.0.1'::inet, 'a'::"char", 12.5::money;
SELECT 'things'::regclass, 'integer'::regtype, 'wikipedia'::regclass::text;
