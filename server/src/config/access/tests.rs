//! Users and roles as they are read, and every way to get them wrong.

use super::super::tests::{read, refused};
use super::*;

const TABLES: &str = r#"
[tables.clicks]
topic = "clicks"
time = "at"
[tables.clicks.columns]
at = "timestamptz"
page = "text"
region = "text"
[tables.deals]
schema = "sales"
topic = "deals"
time = "at"
[tables.deals.columns]
at = "timestamptz"
"#;
const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
const HASH: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[test]
fn users_and_roles_are_read() {
    let text = format!(
        r#"
[server]
audit = "stderr"
session_idle = "10m"
[server.tls]
certificate = "server.crt"
key = "server.key"
required = true
[users.ann]
password = "{PENCIL}"
roles = ["eu"]
attributes = {{ region = "eu", level = 3 }}
[users.robot]
roles = "everything"
tokens = [{{ hash = "{HASH}", name = "nightly", expires = 2027-01-01T00:00:00Z }}]
[roles.eu]
inherits = "reader"
grants = [
  {{ tables = ["clicks", "sales.*"], columns = ["at", "page"], filter = "region = 'eu'" }},
  {{ tables = "clicks", can = ["insert"] }},
]
[roles.eu.limits]
timeout = "30s"
memory = "64MiB"
rows = 1_000
concurrency = 2
[roles.reader]
[roles.everything]
admin = true
{TABLES}"#
    );
    let config = read(&text).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let tls = config.server.tls.unwrap();
    assert!(
        tls.required == TlsRequired::Everybody && tls.certificate.to_str() == Some("server.crt")
    );
    assert_eq!(config.server.audit.as_deref(), Some("stderr"));
    assert_eq!(config.server.session_idle, Duration::from_secs(600));
    let shown = format!("{:?}", config.access);
    assert!(!shown.contains("W22Z") && !shown.contains("ba78"), "{shown}");
    let [ann, robot] = &config.access.users[..] else { panic!("{shown}") };
    assert!(ann.password.as_ref().is_some_and(|verifier| verifier.accepts("pencil")));
    assert_eq!(ann.attributes["level"], "3");
    assert!(robot.password.is_none() && robot.roles == ["everything"]);
    let [token] = &robot.tokens[..] else { panic!("{shown}") };
    assert_eq!((token.hash, token.name.as_deref()), (TokenHash::of("abc"), Some("nightly")));
    assert_eq!(token.expires_us, Some(1_798_761_600_000_000));
    let [eu, _, everything] = &config.access.roles[..] else { panic!("{shown}") };
    assert!(everything.admin && !eu.admin && eu.inherits == ["reader"]);
    assert_eq!(eu.limits.memory_bytes, Some(64 << 20));
    assert_eq!((eu.limits.rows, eu.limits.concurrency), (Some(1_000), Some(2)));
    assert_eq!(eu.limits.timeout, Some(Duration::from_secs(30)));
    let [reads, writes] = &eu.grants[..] else { panic!("{shown}") };
    assert!(reads.select && !reads.insert && !writes.select && writes.insert);
    assert_eq!(reads.filter.as_deref(), Some("region = 'eu'"));
}

#[test]
fn all_mistakes_are_told_and_no_secret() {
    let text = format!(
        r#"[users.ann]
password = "hunter2"
roles = ["redaer"]
[users.bob]
password = "{}"
roles = ["reader"]
[users.cat]
roles = ["reader"]
tokens = ["otus_abc", "{HASH}", "{HASH}"]
[users.dan]
roles = ["reader"]
[roles.reader]
grants = [{{ tables = ["clikcs", "sales.*"], columns = ["price"], can = ["delete"] }}]
inherits = ["nobody"]
[roles.reader.limits]
rows = 0
{TABLES}"#,
        PENCIL.replace("4096", "40")
    );
    refused(
        &text,
        r#"
otus.toml:2:12: error: users.ann.password: the password is written in clear text, or hashed by another scheme
    hint: `otus password` prints what to write here
otus.toml:3:10: error: users.ann.roles[0]: role "redaer" does not exist
    hint: did you mean "reader"?
otus.toml:5:12: error: users.bob.password: the verifier's iterations must be between 4096 and 1000000
    hint: `otus password` prints what to write here
otus.toml:9:11: error: users.cat.tokens[0]: the value is not the hash of a token: expected sha256: and 64 hexadecimal digits
    hint: `otus password --token` makes a token and its hash
otus.toml:9:98: error: users.cat.tokens[2]: there is another token with this hash
    hint: make a token for each use
otus.toml:10:8: error: users.dan: user "dan" can never sign in
    hint: give a password (see `otus password`) or tokens (`otus password --token`)
otus.toml:13:23: error: roles.reader.grants[0].tables[0]: table "clikcs" does not exist
    hint: did you mean "clicks"?
otus.toml:13:56: error: roles.reader.grants[0].columns[0]: column "price" does not exist in sales.deals
    hint: a grant names columns of its tables
otus.toml:13:73: error: roles.reader.grants[0].can[0]: unknown right "delete"
    hint: "select", "insert"
otus.toml:14:13: error: roles.reader.inherits[0]: role "nobody" does not exist
    hint: declare it as [roles.nobody]
otus.toml:16:8: error: roles.reader.limits.rows: expected a whole number, 1 or more"#,
    );
}

#[test]
fn tables_that_statements_may_declare_are_only_warned_of() {
    let grants = "[roles.reader]\ngrants = [{ tables = [\"other\", \"x*\", \"otus.tables\"] }]\n";
    let config = read(&format!("[ddl]\ntopics = [\"*\"]\n{grants}{TABLES}")).unwrap();
    let told: Vec<String> = config.warnings.iter().map(|w| w.message.clone()).collect();
    assert_eq!(told, ["no table of this file is \"other\"", "no table of this file is \"x*\""]);
    assert!(read(&format!("{grants}{TABLES}")).is_err());
}

#[test]
fn conditions_are_planned_over_their_tables() {
    let planned = |filter: &str, columns: &str| {
        let grant = format!("tables = \"clicks\", filter = \"{filter}\"{columns}");
        let user = format!("[users.ann]\npassword = \"{PENCIL}\"\nroles = \"reader\"\n");
        let text = format!("{user}[roles.reader]\ngrants = [{{ {grant} }}]\n{TABLES}");
        let compiler = otus_sql::SqlCompiler::new();
        let environment = crate::config::SystemEnvironment;
        Config::parse("otus.toml", &text, &environment, Some(compiler.as_ref()))
    };
    assert!(planned("region = 'eu'", "").unwrap().warnings.is_empty());
    for (filter, says) in [
        ("regoin = 'eu'", "regoin"),
        ("length(page)", "boolean"),
        ("region = (", "roles.reader.grants[0].filter"),
    ] {
        let problems = planned(filter, "").expect_err(filter).to_string();
        assert!(problems.contains(says), "{filter}: {problems}");
        assert!(problems.contains("roles.reader.grants[0].filter"), "{problems}");
    }
    let problems = planned("region = 'eu'", ", columns = [\"page\"]").expect_err("no time");
    assert!(problems.to_string().contains("the event time of public.clicks"), "{problems}");
}
