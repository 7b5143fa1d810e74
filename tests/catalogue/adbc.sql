-- Arrow Database Connectivity: types with a binary form, then keys and columns.
SELECT oid, typname, typreceive, typbasetype, typrelid, typarray FROM pg_catalog.pg_type WHERE (typreceive != 0 OR typsend != 0) AND typtype != 'r' AND typreceive::text != 'array_recv';
SELECT oid, typname, typreceive, typbasetype, typarray, typrelid FROM pg_catalog.pg_type WHERE typreceive::text = 'array_recv' AND typelem <> 0;
SELECT attname, attnum, atttypid FROM pg_catalog.pg_attribute WHERE attrelid = 'visits'::regclass::oid AND attnum >= 0 ORDER BY attnum;
SELECT c.relname, CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' END FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = ANY (ARRAY['r', 'v', 'm']) AND pg_catalog.pg_table_is_visible(c.oid) AND n.nspname = 'public' ORDER BY 1;
