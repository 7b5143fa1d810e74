-- Times as text.
SELECT to_char(at, 'YYYY-MM-DD HH24:MI:SS') FROM things ORDER BY id LIMIT 3;
SELECT to_char(at, 'YYYY-MM'), to_char(at, 'Mon DD, YYYY'), to_char(at, 'FMMonth FMDDth') FROM things ORDER BY id LIMIT 3;
SELECT to_char(at, 'Day'), to_char(at, 'FMDay'), to_char(at, 'Dy'), to_char(at, 'DAY'), to_char(at, 'dy') FROM things ORDER BY id LIMIT 3;
SELECT to_char(at, 'HH12:MI:SS AM'), to_char(at, 'HH:MI p.m.'), to_char(at, 'SSSS') FROM things ORDER BY id LIMIT 3;
SELECT to_char(at, 'IYYY-"W"IW'), to_char(at, 'ID'), to_char(at, 'D'), to_char(at, 'WW'), to_char(at, 'W') FROM things ORDER BY id LIMIT 3;
SELECT to_char(at, 'YYYY-"Q"Q'), to_char(at, 'DDD'), to_char(at, 'J'), to_char(at, 'CC') FROM things ORDER BY id LIMIT 3;
SELECT to_char(at, 'MS'), to_char(at, 'US'), to_char(at, 'FF3'), to_char(at, 'TZ'), to_char(at, 'OF') FROM things ORDER BY id LIMIT 2;
SELECT to_char(day, 'DD.MM.YY'), to_char(day, 'RM') FROM things WHERE day IS NOT NULL ORDER BY id LIMIT 2;
SELECT to_char(interval '15h 2m 12s', 'HH24:MI:SS'), to_char(interval '3 days 04:05', 'DD HH24');
SELECT to_char(at, 'YYYY') AS y, count(*) FROM things GROUP BY to_char(at, 'YYYY') ORDER BY 1;
SELECT to_char(date_trunc('month', at), 'YYYY-MM') AS month, sum(n) FROM things GROUP BY 1 ORDER BY 1;
SELECT to_char(at, '') FROM things WHERE id = 1;
SELECT to_char(at, 'Y,YYY') , to_char(at, 'YY'), to_char(at, 'MONTH') FROM things WHERE id = 1;
-- Numbers as text.
SELECT to_char(1234567.891, '9,999,999.99'), to_char(1234.5, '0000000.00'), to_char(-5, '999');
SELECT to_char(485, '999th'), to_char(0.45, '0.99'), to_char(0.45, '.99'), to_char(12, 'S99'), to_char(-12, '99MI'), to_char(-12, '99PR');
SELECT to_char(1234.5678, 'FM999999.00'), to_char(148.5, 'FM999.990'), to_char(5, 'FM00');
SELECT to_char(price, 'FM999,990.00') FROM things WHERE price IS NOT NULL ORDER BY id LIMIT 5;
SELECT to_char(n, '9999'), to_char(big, 'FM999G999G999G999G999') FROM things WHERE n IS NOT NULL AND big IS NOT NULL ORDER BY id LIMIT 4;
SELECT to_char(12345, '99'), to_char(485, 'RN'), to_char(0.0004859, '9.99EEEE'), to_char(12.4, '99V9');
SELECT to_char(1e10::float8, '999,999,999,999'), to_char(x, '990.0') FROM things ORDER BY id LIMIT 3;
SELECT to_char(123, 'L999'), to_char(1234, '9 999');
SELECT to_number('12,454.8-', '99G999D9S'), to_number('1,234.56', '9,999.99'), to_number('-12', 'S99');
-- Quoting and format().
SELECT format('%s has %s', 'a', 3), format('%I = %L', 'my col', 'it''s'), format('%%'), format('%2$s %1$s', 'a', 'b');
SELECT format('[%10s]', 'abc'), format('[%-10s]', 'abc'), format('%L', NULL);
SELECT quote_ident('a b'), quote_ident('abc'), quote_literal('it''s'), quote_literal(42), quote_nullable(NULL);
SELECT format('%s', name) FROM things ORDER BY id LIMIT 3;
-- How values are written.
SELECT 1.0::float8, 1e20::float8, 1e-7::float8, 0.1::real, 1.5e300::float8, 'NaN'::float8, '-Infinity'::float8;
SELECT 1.10::numeric, 100::numeric(10,2), 1e5::numeric, 0.000001::numeric;
SELECT true, false, NULL::boolean, 't'::boolean::text, true::text;
SELECT 123456789012::bigint, 5::smallint, '\x00ff'::bytea;
SELECT interval '0', interval '-1 day', interval '1 day -00:00:01', interval '14 months', interval '0.5 seconds';
SELECT ARRAY[1,2,3], ARRAY['a','b c','d"e',NULL,''], ARRAY[]::int[], ARRAY[[1,2],[3,4]];
SELECT (interval '1 day')::text, ARRAY[1,2]::text, (date '2026-03-01')::text, (1.50)::text, 2.0::float8::text;
SELECT at::text, plain::text, day::text, price::text, x::text, narrow::text, flag::text FROM things ORDER BY id LIMIT 5;
SELECT tags::text, nums::text, uid::text, raw::text FROM things ORDER BY id LIMIT 8;
SELECT ROW(1, 'a', NULL), ROW(1, 2.5)::text;
SELECT 'a' || 1, 1 || 'a', 'x' || true, 'd: ' || date '2026-03-01', 'n: ' || NULL;
SELECT 'at ' || at, 'price ' || price, 'x ' || x FROM things ORDER BY id LIMIT 3;
