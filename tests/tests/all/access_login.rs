//! Who is let in: users with passwords and tokens over both faces, encrypted or not, and nobody else, however they
//! ask. What each may then see is another module's promise.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result};
use otus_tests::otus::{Otus, PATIENCE, Setup};
use otus_tests::process::{listens, until};
use otus_tests::{leash, need, paths};
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

pub(crate) const TABLES: &str = r#"
[tables.clicks]
topic = "clicks"
time = "at"
[tables.clicks.columns]
at = "timestamptz"
page = "text"
[tables.people]
kind = "keyed"
topic = "people"
key = "name"
[tables.people.columns]
name = "text"
city = "text"
[roles.admin]
admin = true
[roles.reader]
grants = [{ tables = "clicks" }]
[roles.writer]
monitor = true
grants = [{ tables = ["clicks", "people"], can = ["insert"] }]
"#;

/// What `otus password` prints for what it is given.
fn printed(arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(paths::binary()?);
    command.arg("password").args(arguments);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::piped()).spawn()?;
    child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "otus password: {words}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The line that declares a password.
pub(crate) fn password(text: &str) -> Result<String> {
    printed(&[], &format!("{text}\n"))
}

/// A token and the line that declares it.
pub(crate) fn token() -> Result<(String, String)> {
    let text = printed(&["--token"], "")?;
    let (token, line) = text.trim().split_once('\n').context("two lines")?;
    Ok((token.to_owned(), line.to_owned()))
}

/// Sections of ann, who administers, bob, who reads, and the writer, who has a token only; and the tokens of the
/// last two.
pub(crate) fn users() -> Result<(String, String, String)> {
    let (reads, read_line) = token()?;
    let (writes, write_line) = token()?;
    let (ann, bob) = (printed(&[], "pencil\n")?, printed(&[], "Füller 7\r\n")?);
    let text = format!(
        "[users.ann]\n{ann}roles = \"admin\"\n[users.bob]\n{bob}roles = \"reader\"\n{read_line}\n\
         [users.feed]\nroles = \"writer\"\n{write_line}\n"
    );
    Ok((text, reads, writes))
}

/// A certificate for localhost and its key, below a folder.
pub(crate) fn certificate(folder: &Path, name: &str) -> Result<(), String> {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ])
        .args(["-days", "30", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")])
        .current_dir(folder)
        .output()
        .map_err(|_| "openssl is not installed (tests/run --install)".to_owned())?;
    match made.status.success() {
        true => Ok(()),
        false => Err(format!("openssl: {}", String::from_utf8_lossy(&made.stderr))),
    }
}

fn tls(name: &str, required: bool) -> String {
    format!(
        "[server.tls]\ncertificate = \"{name}.crt\"\nkey = \"{name}.key\"\nrequired = {required}\n"
    )
}

/// Runs psql as a user; `more` goes into the connection string.
pub(crate) fn psql(
    otus: &Otus,
    user: &str,
    password: &str,
    more: &str,
    sql: &str,
) -> Result<Output, String> {
    let psql = otus.psql()?;
    let port = otus.postgres_port();
    let string = format!("host=localhost port={port} user={user} dbname=otus {more}");
    let mut command = psql.command(&["-w", "-At", "-c", sql, "-d", &string]);
    // Settings of the string count only where the command line and the environment say nothing.
    let command = command.env("PGPASSWORD", password).env("PGSSLMODE", "prefer");
    command.current_dir(otus.folder()).output().map_err(|e| e.to_string())
}

pub(crate) fn words(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err)).trim().to_owned()
}

#[test]
fn psql_proves_its_password() -> Result<()> {
    let (users, ..) = users()?;
    let otus = Setup::tables(format!("{users}{TABLES}")).start()?;
    let ask = |user, password, more| psql(&otus, user, password, more, "select current_user");
    let right = need!(ask("ann", "pencil", ""));
    assert_eq!(words(&right), "ann");
    assert_eq!(words(&need!(ask("bob", "Füller 7", ""))), "bob");
    // A letter with its accent apart is the same letter.
    assert_eq!(words(&need!(ask("bob", "Fu\u{308}ller 7", ""))), "bob");
    for (user, password) in [("ann", "pencils"), ("eve", "pencil"), ("feed", "pencil")] {
        let refused = need!(ask(user, password, ""));
        let wanted = format!("FATAL:  password authentication failed for user \"{user}\"");
        assert!(!refused.status.success() && words(&refused).ends_with(&wanted), "{refused:?}");
    }
    let own = |password: &str| -> Result<Output> {
        let mut sql = Command::new(paths::binary()?);
        sql.args(["sql", "--csv", "-U", "ann", "-c", "select current_user", "-h", "127.0.0.1"]);
        sql.args(["-p", &otus.postgres_port().to_string()]).env("PGPASSWORD", password);
        Ok(sql.output()?)
    };
    assert!(words(&own("pencil")?).ends_with("ann"), "{:?}", own("pencil")?);
    assert!(words(&own("pen")?).contains("password authentication failed for user \"ann\""));
    let unbound = need!(ask("ann", "pencil", "sslmode=disable channel_binding=require"));
    assert!(!unbound.status.success(), "{unbound:?}");
    let none = need!(psql(&otus, "ann", "pencil", "sslmode=require", "select 1"));
    assert!(words(&none).contains("server does not support SSL"), "{none:?}");
    Ok(())
}

#[test]
fn connections_are_encrypted_and_bound_to_the_certificate() -> Result<()> {
    let folder = leash::fresh_folder("otus")?;
    need!(certificate(&folder, "server"));
    need!(certificate(&folder, "stranger"));
    let (users, ..) = users()?;
    let setup = Setup::tables(format!("{}{users}{TABLES}", tls("server", true))).folder(&folder);
    let mut otus = setup.prepare()?;
    otus.spawn(&[])?;
    let port = otus.postgres_port();
    until("the server listens", PATIENCE, || {
        anyhow::ensure!(listens(port), "nobody listens");
        Ok(())
    })?;
    let ask = |more: &str| psql(&otus, "ann", "pencil", more, "select current_user");
    let bound = "sslmode=verify-full sslrootcert=server.crt channel_binding=require";
    assert_eq!(words(&need!(ask(bound))), "ann");
    let unbound = "sslmode=verify-full sslrootcert=server.crt channel_binding=disable";
    assert_eq!(words(&need!(ask(unbound))), "ann");
    for version in ["TLSv1.2", "TLSv1.3"] {
        let only = format!("ssl_min_protocol_version={version} ssl_max_protocol_version={version}");
        assert_eq!(words(&need!(ask(&format!("{bound} {only}")))), "ann", "{version}");
    }
    let other = need!(ask("sslmode=verify-full sslrootcert=stranger.crt"));
    assert!(words(&other).contains("certificate verify failed"), "{other:?}");
    let plain = need!(ask("sslmode=disable"));
    assert!(words(&plain).contains("is not encrypted"), "{plain:?}");
    // What stands before the handshake is never taken for what comes after it.
    let mut stuffed = TcpStream::connect(("127.0.0.1", port))?;
    stuffed.write_all(&[0, 0, 0, 8, 4, 210, 22, 47, b'Q', 0, 0, 0, 4])?;
    stuffed.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    stuffed.read_to_end(&mut answer).ok();
    assert!(answer.is_empty() || answer[0] != b'S', "{answer:?}");

    let url = otus.url("/healthz");
    let curl = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-S"]).args(arguments).current_dir(&folder);
        curl.output().map_err(|_| "curl is not installed (tests/run --install)".to_owned())
    };
    let refused = need!(curl(&[&url]));
    assert!(words(&refused).contains("not_encrypted"), "{refused:?}");
    let url = url.replace("http://127.0.0.1", "https://localhost");
    assert_eq!(words(&need!(curl(&["--cacert", "server.crt", &url]))), "ok");
    assert!(!need!(curl(&["--cacert", "stranger.crt", &url])).status.success());
    let sign_in = url.replace("/healthz", "/api/session");
    let body = json!({ "user": "ann", "password": "pencil" }).to_string();
    let json = ["-H", "content-type: application/json"];
    let signed = [&["-i", "--cacert", "server.crt", "-d", &body][..], &json, &[&sign_in]].concat();
    let answer = words(&need!(curl(&signed)));
    assert!(
        answer.contains("HttpOnly; SameSite=Strict; Path=/; Max-Age=43200; Secure"),
        "{answer}"
    );

    // A new certificate is taken without a new start, and a broken one is not.
    std::fs::write(folder.join("server.key"), "rubbish")?;
    otus.signal("HUP")?;
    until("the broken key is told of", PATIENCE, || {
        anyhow::ensure!(otus.output().contains("server.key"), "nothing is told");
        Ok(())
    })?;
    assert_eq!(words(&need!(ask(bound))), "ann");
    std::fs::copy(folder.join("stranger.crt"), folder.join("server.crt"))?;
    std::fs::copy(folder.join("stranger.key"), folder.join("server.key"))?;
    otus.signal("HUP")?;
    until("the new certificate is used", PATIENCE, || {
        let output = ask(bound).map_err(anyhow::Error::msg)?;
        anyhow::ensure!(words(&output) == "ann", "{output:?}");
        Ok(())
    })?;
    otus.stop()
}

#[test]
fn keys_of_every_kind_are_read() -> Result<()> {
    let folder = leash::fresh_folder("otus")?;
    let openssl = |arguments: &[&str]| -> Result<(), String> {
        let made = Command::new("openssl").args(arguments).current_dir(&folder).output();
        let made = made.map_err(|_| "openssl is not installed (tests/run --install)".to_owned())?;
        if made.status.success() { Ok(()) } else { Err(words(&made)) }
    };
    need!(certificate(&folder, "sec1"));
    need!(openssl(&["ec", "-in", "sec1.key", "-out", "sec1.key"]));
    let request = ["req", "-x509", "-nodes", "-days", "9", "-subj", "/CN=localhost"];
    let rsa = ["-newkey", "rsa:2048", "-keyout", "pkcs1.key", "-out", "pkcs1.crt"];
    need!(openssl(&[&request[..], &rsa].concat()));
    need!(openssl(&["rsa", "-traditional", "-in", "pkcs1.key", "-out", "pkcs1.key"]));
    let (users, ..) = users()?;
    for (name, kind) in [("sec1", "BEGIN EC PRIVATE KEY"), ("pkcs1", "BEGIN RSA PRIVATE KEY")] {
        assert!(std::fs::read_to_string(folder.join(format!("{name}.key")))?.contains(kind));
        let text = format!("{}{users}{TABLES}", tls(name, false));
        let mut otus = Setup::tables(text).folder(&folder).start()?;
        let bound = "sslmode=require channel_binding=require";
        assert_eq!(words(&need!(psql(&otus, "ann", "pencil", bound, "select 1"))), "1");
        let plain = need!(psql(&otus, "ann", "pencil", "sslmode=disable", "select 1"));
        assert_eq!(words(&plain), "1", "encryption is offered, not required");
        otus.stop()?;
    }
    Ok(())
}

#[test]
fn a_bad_certificate_refuses_to_start() -> Result<()> {
    let folder = leash::fresh_folder("otus")?;
    need!(certificate(&folder, "server"));
    need!(certificate(&folder, "other"));
    let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
    let (good, other) = (std::fs::read(&certificate)?, std::fs::read(folder.join("other.key"))?);
    let spoil: [(&str, &PathBuf, Option<&[u8]>); 4] = [
        ("server.key cannot be used", &key, Some(&other)),
        ("key server.key cannot be read: it holds no key", &key, Some(&good)),
        (
            "certificate server.crt cannot be read: it holds no certificate",
            &certificate,
            Some(b"x"),
        ),
        ("certificate server.crt cannot be read", &certificate, None),
    ];
    for (says, file, content) in spoil {
        match content {
            Some(content) => std::fs::write(file, content)?,
            None => std::fs::remove_file(file)?,
        }
        let text = format!("{}{TABLES}", tls("server", false));
        let mut otus = Setup::tables(text).folder(&folder).prepare()?;
        otus.spawn(&[])?;
        let status = otus.wait_end(PATIENCE)?;
        assert!(!status.success() && otus.output().contains(says), "{says}: {}", otus.output());
        assert!(!listens(otus.postgres_port()), "{says}");
        let checked = otus.command(&["check"])?;
        assert!(!checked.status.success() && words(&checked).contains(says), "{checked:?}");
    }
    Ok(())
}

#[test]
fn without_users_other_networks_are_refused() -> Result<()> {
    let setup = |more: &str| -> Result<Otus> {
        let otus = Setup::tables(format!("{more}{TABLES}")).prepare()?;
        let file = otus.folder().join("otus.toml");
        let text = std::fs::read_to_string(&file)?;
        let (from, to) = ("http = \"127.0.0.1:", "http = \"0.0.0.0:");
        std::fs::write(&file, text.replace(from, to))?;
        Ok(otus)
    };
    let mut open = setup("")?;
    open.spawn(&[])?;
    assert!(!open.wait_end(PATIENCE)?.success());
    assert!(open.output().contains("declare users"), "{}", open.output());
    let (users, ..) = users()?;
    let mut known = setup(&users)?;
    known.launch()?;
    known.wait_ready()?;
    assert!(known.output().contains("in clear text"), "{}", known.output());
    known.stop()
}

/// A client over HTTP that keeps no cookies by itself.
struct Web<'a>(&'a Otus, Client);

impl<'a> Web<'a> {
    fn new(otus: &'a Otus) -> Result<Self> {
        // Each request has a runtime of its own, which its connection does not outlive.
        Ok(Self(otus, Client::builder().no_proxy().pool_max_idle_per_host(0).build()?))
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.1.get(self.0.url(path))
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        let request = self.1.post(self.0.url(path)).header("content-type", "application/json");
        request.body(body.to_string())
    }

    /// Signs in; gives the cookie.
    fn sign_in(&self, user: &str, password: &str) -> Result<String> {
        let body = json!({ "user": user, "password": password });
        let answer = send(self.post("/api/session", &body))?;
        anyhow::ensure!(answer.status == 200, "{}", answer.body);
        let cookie = answer.headers.get("set-cookie").context("no cookie")?.to_str()?;
        assert!(cookie.contains("; HttpOnly; SameSite=Strict; Path=/; Max-Age="), "{cookie}");
        Ok(cookie.split(';').next().unwrap_or_default().to_owned())
    }

    fn origin(&self) -> String {
        self.0.url("")
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

fn send(request: RequestBuilder) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let response = request.timeout(PATIENCE).send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = serde_json::from_str(&response.text().await?).unwrap_or_default();
        Ok(Answer { status, headers, body })
    })
}

/// Status and body.
fn told(request: RequestBuilder) -> Result<(u16, Value)> {
    send(request).map(|answer| (answer.status, answer.body))
}

/// Status and body, whatever it is.
pub(crate) fn text(request: RequestBuilder) -> Result<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let response = request.timeout(PATIENCE).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    })
}

fn status(request: RequestBuilder) -> Result<u16> {
    Ok(told(request)?.0)
}

fn query(sql: &str) -> Value {
    json!({ "query": sql })
}

#[test]
fn tokens_open_what_their_roles_may() -> Result<()> {
    let (users, reads, writes) = users()?;
    let otus = Setup::tables(format!("{users}{TABLES}")).start()?;
    let web = Web::new(&otus)?;
    let nobody = send(web.post("/api/sql", &query("select 1")))?;
    assert_eq!((nobody.status, &nobody.body["error"]["code"]), (401, &json!("28000")));
    assert_eq!(nobody.headers["www-authenticate"], "Bearer");
    for path in ["/api/schema", "/api/ingest", "/api/session", "/api/tables/people", "/nowhere"] {
        assert_eq!(status(web.get(path))?, 401, "{path}");
    }
    assert_eq!(status(web.get("/healthz"))?, 200);
    // Who may not watch the server learns no name of a table from it.
    let (_, ready) = told(web.get("/readyz"))?;
    assert!(
        ready["ready"].is_boolean() && ready.as_object().is_some_and(|r| r.len() == 1),
        "{ready}"
    );
    assert_eq!(status(web.get("/metrics"))?, 401);
    assert_eq!(status(web.get("/metrics").bearer_auth(&reads))?, 403);
    assert_eq!(status(web.get("/metrics").bearer_auth(&writes))?, 200);
    let (_, ready) = told(web.get("/readyz").bearer_auth(&writes))?;
    assert!(ready.get("lag").is_some(), "{ready}");
    let wrong = send(web.get("/api/session").bearer_auth("otus_x"))?;
    assert_eq!(wrong.status, 401);
    assert_eq!(wrong.headers["www-authenticate"], "Bearer error=\"invalid_token\"");

    let (code, who) = told(web.get("/api/session").bearer_auth(&reads))?;
    assert_eq!((code, &who["user"], &who["roles"]), (200, &json!("bob"), &json!(["reader"])));
    let (code, answer) =
        told(web.post("/api/sql", &query("select current_user as u")).bearer_auth(&reads))?;
    assert_eq!((code, &answer["rows"][0][0]), (200, &json!("bob")), "{answer}");
    let (_, schema) = told(web.get("/api/schema").bearer_auth(&reads))?;
    let names: Vec<&Value> =
        schema["tables"].as_array().into_iter().flatten().map(|t| &t["name"]).collect();
    assert_eq!(names, ["clicks"], "{schema}");
    let (code, body) =
        told(web.post("/api/sql", &query("select * from people")).bearer_auth(&reads))?;
    assert!(code >= 400 && body["error"]["code"] != "42501", "it does not exist for bob: {body}");
    let levers = ["/api/ingest/flush", "/api/ingest/maintain", "/api/ingest/pause/clicks"];
    for path in levers.into_iter().chain(["/api/ingest/reset"]) {
        let (code, body) = told(web.post(path, &json!({})).bearer_auth(&reads))?;
        assert_eq!((code, &body["error"]["code"]), (403, &json!("42501")), "{path}: {body}");
    }
    let define = query("create table t (at timestamptz) with (topic = 'x', time = 'at')");
    assert_eq!(status(web.post("/api/sql", &define).bearer_auth(&reads))?, 403);

    let click = json!([{ "at": "2026-01-01T00:00:00Z", "page": "home" }]);
    let append = |topic: &str, token: &str| {
        status(web.post(&format!("/api/append/{topic}"), &click).bearer_auth(token))
    };
    assert_eq!((append("clicks", &writes)?, append("clicks", &reads)?), (200, 403));
    assert_eq!((append("nowhere", &reads)?, append("people", &reads)?), (403, 403));
    let row = |token: &str| {
        let request = web.1.put(otus.url("/api/tables/people/ann?wait=visible"));
        let request = request.header("content-type", "application/json").bearer_auth(token);
        status(request.body(json!({ "city": "Bern" }).to_string()))
    };
    assert_eq!((row(&writes)?, row(&reads)?), (200, 403));
    let page = |token: &str| status(web.get("/api/tables/people/ann").bearer_auth(token));
    assert!(page(&writes)? >= 400 && page(&reads)? >= 400, "neither may read it");
    Ok(())
}

#[test]
fn sessions_begin_end_and_are_no_others() -> Result<()> {
    let (users, ..) = users()?;
    let setup = Setup::tables(format!("{users}{TABLES}"));
    let otus = setup.server("session_idle", "\"3s\"").start()?;
    let web = Web::new(&otus)?;
    let wrong = web.post("/api/session", &json!({ "user": "ann", "password": "pen" }));
    let (code, body) = told(wrong)?;
    assert_eq!((code, &body["error"]["code"]), (401, &json!("28P01")), "{body}");
    let spilt = web.post("/api/session", &json!({ "user": "ann", "passwort": "pencil" }));
    let (code, body) = told(spilt)?;
    assert!(code == 400 && !body.to_string().contains("pencil"), "{body}");

    let cookie = web.sign_in("ann", "pencil")?;
    let with = |request: RequestBuilder, cookie: &str| request.header("cookie", cookie.to_owned());
    let (code, who) = told(with(web.get("/api/session"), &cookie))?;
    assert_eq!((code, &who["user"], &who["admin"]), (200, &json!("ann"), &json!(true)));
    let sql = || with(web.post("/api/sql", &query("select current_user as u")), &cookie);
    let own = web.origin();
    assert_eq!(status(sql().header("origin", own.clone()))?, 200);
    assert_eq!(status(sql().header("sec-fetch-site", "same-origin"))?, 200);
    for (name, value) in [
        ("origin", "https://evil.example.com"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("x-nothing", "said"),
    ] {
        assert_eq!(status(sql().header(name, value))?, 403, "{name}: {value}");
    }
    let flush = with(web.post("/api/ingest/flush", &json!({})), &cookie);
    assert_eq!(status(flush.header("origin", own.clone()))?, 200, "ann is an administrator");

    // Whoever signs in gets another id, and the one that came along ends.
    let again =
        with(web.post("/api/session", &json!({ "user": "ann", "password": "pencil" })), &cookie);
    let again = send(again)?;
    let new = again.headers.get("set-cookie").context("no cookie")?.to_str()?.to_owned();
    let new = new.split(';').next().unwrap_or_default().to_owned();
    assert_ne!(new, cookie);
    assert_eq!(status(with(web.get("/api/session"), &cookie))?, 401);
    assert_eq!(status(with(web.get("/api/session"), &new))?, 200);
    let leave = |cookie: &str| with(web.1.delete(otus.url("/api/session")), cookie);
    assert_eq!(status(leave(&new))?, 403, "from no page");
    assert_eq!(status(leave(&new).header("origin", own))?, 204);
    assert_eq!(status(with(web.get("/api/session"), &new))?, 401);

    let idle = web.sign_in("bob", "Füller 7")?;
    assert_eq!(status(with(web.get("/api/session"), &idle))?, 200);
    otus_tests::otus::wait_between(Duration::from_secs(4));
    assert_eq!(status(with(web.get("/api/session"), &idle))?, 401, "idle for too long");
    Ok(())
}

#[test]
fn everybody_who_guesses_is_stopped_and_written_down() -> Result<()> {
    let (users, reads, watches) = users()?;
    let setup = Setup::tables(format!("{users}{TABLES}")).server("audit", "\"audit.log\"");
    let mut otus = setup.start()?;
    let web = Web::new(&otus)?;
    need!(psql(&otus, "ann", "pencil", "", "select 42 as answer"));
    need!(psql(&otus, "ann", "pencil", "", "select nothing"));
    need!(psql(&otus, "ann", "pencil", "", "selekt"));
    let endless = "select count(*) from generate_series(1, 1000000000000) t(v)";
    let mut leaving =
        otus.psql().map_err(anyhow::Error::msg)?.command(&["-c", endless, "-U", "ann"]);
    let mut leaving = leaving.env("PGPASSWORD", "pencil").spawn()?;
    until("the statement runs", PATIENCE, || {
        let (_, metrics) = text(web.get("/metrics").bearer_auth(&watches))?;
        let signed = metrics.contains("otus_sign_ins_total{face=\"postgres\",result=\"ok\"} 4");
        anyhow::ensure!(signed, "{metrics}");
        Ok(())
    })?;
    otus_tests::otus::wait_between(Duration::from_millis(500));
    leaving.kill()?;
    leaving.wait()?;
    assert_eq!(status(web.post("/api/sql", &query("select 'by token'")).bearer_auth(&reads))?, 200);
    let guesses: Vec<_> =
        (0..40).map(|n| json!({ "user": "bob", "password": n.to_string() })).collect();
    let codes = std::thread::scope(|scope| {
        let web = &web;
        let guess = |body| scope.spawn(move || status(web.post("/api/session", body)));
        let running: Vec<_> = guesses.iter().map(guess).collect();
        running.into_iter().map(|t| t.join().expect("no bug")).collect::<Result<Vec<_>>>()
    })?;
    let of = |code| codes.iter().filter(|c| **c == code).count();
    // One that was being looked at when another failed is still answered.
    assert!((20..=21).contains(&of(401)) && of(401) + of(429) == 40, "{codes:?}");
    // Nor is the right password looked at from there, over either face.
    let refused = need!(psql(&otus, "bob", "Füller 7", "", "select 1"));
    assert!(words(&refused).contains("too many failed sign-ins"), "{refused:?}");
    let (code, metrics) = text(web.get("/metrics").bearer_auth(&watches))?;
    let counted = format!("otus_sign_ins_total{{face=\"http\",result=\"failed\"}} {}", of(401));
    assert!(code == 200 && metrics.contains(&counted), "{metrics}");
    otus.stop()?;

    let text = std::fs::read_to_string(otus.folder().join("audit.log"))?;
    assert!(!text.contains("pencil") && !text.contains(&reads), "{text}");
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let find = |statement: &str| {
        let found = lines.iter().find(|line| line["statement"] == statement);
        found.with_context(|| format!("{statement:?} is not in\n{text}"))
    };
    let answer = find("select 42 as answer")?;
    assert_eq!((&answer["user"], &answer["roles"]), (&json!("ann"), &json!(["admin"])));
    assert_eq!((&answer["rows"], &answer["ok"]), (&json!(1), &json!(true)));
    assert_eq!((&answer["face"], &answer["address"]), (&json!("postgres"), &json!("127.0.0.1")));
    assert_eq!(find("select nothing")?["sqlstate"], "42703");
    assert_eq!(find("selekt")?["sqlstate"], "42601");
    assert_eq!(find("select 'by token'")?["user"], "bob");
    assert_eq!(find(endless)?["sqlstate"], "57014", "its client has gone");
    let event = |name: &str| lines.iter().filter(|line| line["event"] == name).count();
    assert_eq!(event("sign_in"), 4);
    assert_eq!(event("sign_in_failed"), 41);
    Ok(())
}
