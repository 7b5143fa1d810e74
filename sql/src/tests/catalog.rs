//! The queries that psql 15 sends for its backslash commands, word for word.

use super::world::World;

const RELATIONS: &str = "SELECT n.nspname as \"Schema\",
  c.relname as \"Name\",
  CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'i' THEN 'index' WHEN 'S' THEN 'sequence' WHEN 't' THEN 'TOAST table' WHEN 'f' THEN 'foreign table' WHEN 'p' THEN 'partitioned table' WHEN 'I' THEN 'partitioned index' END as \"Type\",
  pg_catalog.pg_get_userbyid(c.relowner) as \"Owner\"
FROM pg_catalog.pg_class c
     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
WHERE c.relkind IN (KINDS)
      AND n.nspname <> 'pg_catalog'
      AND n.nspname !~ '^pg_toast'
      AND n.nspname <> 'information_schema'
  AND pg_catalog.pg_table_is_visible(c.oid)
ORDER BY 1,2;";

/// What `\d table` asks for below the columns; `OID` stands for the table's id.
const FOOTERS: &[&str] = &[
    "SELECT pol.polname, pol.polpermissive,
          CASE WHEN pol.polroles = '{0}' THEN NULL ELSE pg_catalog.array_to_string(array(select rolname from pg_catalog.pg_roles where oid = any (pol.polroles) order by 1),',') END,
          pg_catalog.pg_get_expr(pol.polqual, pol.polrelid),
          pg_catalog.pg_get_expr(pol.polwithcheck, pol.polrelid),
          CASE pol.polcmd
            WHEN 'r' THEN 'SELECT'
            WHEN 'a' THEN 'INSERT'
            WHEN 'w' THEN 'UPDATE'
            WHEN 'd' THEN 'DELETE'
            END AS cmd
        FROM pg_catalog.pg_policy pol
        WHERE pol.polrelid = 'OID' ORDER BY 1;",
    "SELECT oid, stxrelid::pg_catalog.regclass, stxnamespace::pg_catalog.regnamespace::pg_catalog.text AS nsp, stxname,
        pg_catalog.pg_get_statisticsobjdef_columns(oid) AS columns,
          'd' = any(stxkind) AS ndist_enabled,
          'f' = any(stxkind) AS deps_enabled,
          'm' = any(stxkind) AS mcv_enabled,
        stxstattarget
        FROM pg_catalog.pg_statistic_ext
        WHERE stxrelid = 'OID'
        ORDER BY nsp, stxname;",
    "SELECT pubname
             , NULL
             , NULL
        FROM pg_catalog.pg_publication p
             JOIN pg_catalog.pg_publication_namespace pn ON p.oid = pn.pnpubid
             JOIN pg_catalog.pg_class pc ON pc.relnamespace = pn.pnnspid
        WHERE pc.oid ='OID' and pg_catalog.pg_relation_is_publishable('OID')
        UNION
        SELECT pubname
             , pg_get_expr(pr.prqual, c.oid)
             , (CASE WHEN pr.prattrs IS NOT NULL THEN
                 (SELECT string_agg(attname, ', ')
                   FROM pg_catalog.generate_series(0, pg_catalog.array_upper(pr.prattrs::pg_catalog.int2[], 1)) s,
                        pg_catalog.pg_attribute
                  WHERE attrelid = pr.prrelid AND attnum = prattrs[s])
                ELSE NULL END) FROM pg_catalog.pg_publication p
             JOIN pg_catalog.pg_publication_rel pr ON p.oid = pr.prpubid
             JOIN pg_catalog.pg_class c ON c.oid = pr.prrelid
        WHERE pr.prrelid = 'OID'
        UNION
        SELECT pubname
             , NULL
             , NULL
        FROM pg_catalog.pg_publication p
        WHERE p.puballtables AND pg_catalog.pg_relation_is_publishable('OID')
        ORDER BY 1;",
    "SELECT c.oid::pg_catalog.regclass
FROM pg_catalog.pg_class c, pg_catalog.pg_inherits i
WHERE c.oid = i.inhparent AND i.inhrelid = 'OID'
  AND c.relkind != 'p' AND c.relkind != 'I'
ORDER BY inhseqno;",
    "SELECT c.oid::pg_catalog.regclass, c.relkind, inhdetachpending, pg_catalog.pg_get_expr(c.relpartbound, c.oid)
FROM pg_catalog.pg_class c, pg_catalog.pg_inherits i
WHERE c.oid = i.inhrelid AND i.inhparent = 'OID'
ORDER BY pg_catalog.pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT', c.oid::pg_catalog.regclass::pg_catalog.text;",
];

#[tokio::test]
async fn psql_lists_relations_schemas_and_databases() {
    let world = World::filled().await;
    let all = world.rows(&RELATIONS.replace("KINDS", "'r','p','v','m','S','f',''")).await;
    let names: Vec<_> = all.iter().map(|r| (r[0].as_str(), r[1].as_str(), r[2].as_str())).collect();
    assert!(names.iter().all(|n| n.0 == "public"), "only the search path: {names:?}");
    assert!(names.contains(&("public", "events", "table")), "{names:?}");
    assert!(names.contains(&("public", "by_kind_hour", "view")), "{names:?}");
    let tables = world.rows(&RELATIONS.replace("KINDS", "'r','p',''")).await;
    assert_eq!(tables.len(), 1, "{tables:?}");
    let schemas = world
        .rows(
            "SELECT n.nspname AS \"Name\",
  pg_catalog.pg_get_userbyid(n.nspowner) AS \"Owner\"
FROM pg_catalog.pg_namespace n
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1;",
        )
        .await;
    let names: Vec<_> = schemas.iter().map(|r| r[0].as_str()).collect();
    assert_eq!(names, ["otus", "public"]);
    let databases = world
        .rows(
            "SELECT d.datname as \"Name\",
       pg_catalog.pg_get_userbyid(d.datdba) as \"Owner\",
       pg_catalog.pg_encoding_to_char(d.encoding) as \"Encoding\",
       d.datcollate as \"Collate\",
       d.datctype as \"Ctype\",
       d.daticulocale as \"ICU Locale\",
       CASE d.datlocprovider WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' END AS \"Locale Provider\",
       pg_catalog.array_to_string(d.datacl, E'\\n') AS \"Access privileges\"
FROM pg_catalog.pg_database d
ORDER BY 1;",
        )
        .await;
    let names: Vec<_> = databases.iter().map(|r| (r[0].as_str(), r[1].as_str())).collect();
    assert_eq!(names, [("otus", "otus")]);
}

#[tokio::test]
async fn psql_describes_a_table() {
    let world = World::filled().await;
    let found = world
        .rows(
            "SELECT c.oid,
  n.nspname,
  c.relname
FROM pg_catalog.pg_class c
     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname OPERATOR(pg_catalog.~) '^(events)$' COLLATE pg_catalog.default
  AND pg_catalog.pg_table_is_visible(c.oid)
ORDER BY 2, 3;",
        )
        .await;
    assert_eq!(found.len(), 1, "{found:?}");
    let oid = found[0][0].clone();
    let relation = world
        .rows(&format!(
            "SELECT c.relchecks, c.relkind, c.relhasindex, c.relhasrules, c.relhastriggers, c.relrowsecurity, c.relforcerowsecurity, false AS relhasoids, c.relispartition, '', c.reltablespace, CASE WHEN c.reloftype = 0 THEN '' ELSE c.reloftype::pg_catalog.regtype::pg_catalog.text END, c.relpersistence, c.relreplident, am.amname
FROM pg_catalog.pg_class c
 LEFT JOIN pg_catalog.pg_class tc ON (c.reltoastrelid = tc.oid)
LEFT JOIN pg_catalog.pg_am am ON (c.relam = am.oid)
WHERE c.oid = '{oid}';"
        ))
        .await;
    assert_eq!((relation.len(), relation[0].len()), (1, 15), "{relation:?}");
    let columns = world
        .rows(&format!(
            "SELECT a.attname,
  pg_catalog.format_type(a.atttypid, a.atttypmod),
  (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true)
   FROM pg_catalog.pg_attrdef d
   WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef),
  a.attnotnull,
  (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t
   WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> t.typcollation) AS attcollation,
  a.attidentity,
  a.attgenerated
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = '{oid}' AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;"
        ))
        .await;
    let list: Vec<_> = columns.iter().map(|r| (r[0].as_str(), r[1].as_str())).collect();
    assert!(list.contains(&("ts", "timestamp with time zone")), "{list:?}");
    assert!(list.contains(&("user_id", "bigint")), "{list:?}");
    assert!(list.contains(&("kind", "text")), "{list:?}");
    assert!(list.contains(&("amount", "numeric(12,2)")), "{list:?}");
    for sql in FOOTERS {
        let rows = world.rows(&sql.replace("OID", &oid)).await;
        assert!(rows.is_empty(), "{rows:?}");
    }
}

#[tokio::test]
async fn the_information_schema_speaks_postgres() {
    let world = World::filled().await;
    let columns = world
        .rows(
            "SELECT column_name, data_type, ordinal_position, is_nullable, numeric_scale, udt_name
             FROM information_schema.columns
             WHERE table_schema = 'public' AND table_name = 'events' ORDER BY ordinal_position LIMIT 4",
        )
        .await;
    assert_eq!(
        columns,
        [
            ["ts", "timestamp with time zone", "1", "NO", "NULL", "timestamptz"],
            ["kind", "text", "2", "YES", "NULL", "text"],
            ["user_id", "bigint", "3", "YES", "0", "int8"],
            ["amount", "numeric", "4", "YES", "2", "numeric"],
        ]
    );
    let tables = world
        .rows("SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1")
        .await;
    assert_eq!(tables.last().unwrap(), &["events", "BASE TABLE"]);
    assert_eq!(tables.len(), 4);
    assert_eq!(world.value("SELECT count(*) FROM information_schema.table_constraints").await, "0");
}

#[tokio::test]
async fn psql_describes_more_with_a_plus() {
    let world = World::filled().await;
    let options = world
        .rows(
            "SELECT c.relchecks, c.relkind, c.relhasindex, c.relhasrules, c.relhastriggers, c.relrowsecurity, c.relforcerowsecurity, false AS relhasoids, c.relispartition, pg_catalog.array_to_string(c.reloptions || array(select 'toast.' || x from pg_catalog.unnest(tc.reloptions) x), ', ')
, c.reltablespace, CASE WHEN c.reloftype = 0 THEN '' ELSE c.reloftype::pg_catalog.regtype::pg_catalog.text END, c.relpersistence, c.relreplident, am.amname
FROM pg_catalog.pg_class c
 LEFT JOIN pg_catalog.pg_class tc ON (c.reltoastrelid = tc.oid)
LEFT JOIN pg_catalog.pg_am am ON (c.relam = am.oid)
WHERE c.relname = 'events';",
        )
        .await;
    assert_eq!((options.len(), options[0][1].as_str()), (1, "r"), "{options:?}");
    let roles = world
        .rows(
            "SELECT r.rolname, r.rolsuper, r.rolinherit,
  r.rolcreaterole, r.rolcreatedb, r.rolcanlogin,
  r.rolconnlimit, r.rolvaliduntil,
  ARRAY(SELECT b.rolname
        FROM pg_catalog.pg_auth_members m
        JOIN pg_catalog.pg_roles b ON (m.roleid = b.oid)
        WHERE m.member = r.oid) as memberof
, r.rolreplication
, r.rolbypassrls
FROM pg_catalog.pg_roles r
WHERE r.rolname !~ '^pg_'
ORDER BY 1;",
        )
        .await;
    assert!(roles.iter().any(|r| (r[0].as_str(), r[8].as_str()) == ("otus", "[]")), "{roles:?}");
}
