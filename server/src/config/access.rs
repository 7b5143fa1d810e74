//! The `[users.<name>]` and `[roles.<name>]` sections: who there is, and who may do what. Names are checked here;
//! conditions of row filters by those who plan them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use otus_engine::catalog::TableDef;
use otus_sql::access::{GrantDef, RoleDef, RoleLimits, RolePlace, Roles, means};

use super::problem::Severity;
use super::tree::{Node, Section};
use super::{AccessConfig, Config, TlsConfig, TlsRequired, names, units};
use crate::auth::{TokenDef, TokenHash, UserDef, Verifier, VerifierError};

/// Schemas whose tables nobody declares.
const SYSTEM_SCHEMAS: [&str; 3] = ["otus", "pg_catalog", "information_schema"];

/// A role and the places that later checks report to.
struct Placed<'a> {
    def: RoleDef,
    grants: Vec<PlacedGrant<'a>>,
}

struct PlacedGrant<'a> {
    def: GrantDef,
    node: Node<'a>,
    filter: Option<Node<'a>>,
}

/// Reads both sections, over the tables of a configuration. Conditions of grants are planned where `plans`.
pub(super) fn access(root: &Section<'_>, config: &Config, plans: bool) -> AccessConfig {
    let role_section = root.take("roles").and_then(|n| n.section());
    let user_section = root.take("users").and_then(|n| n.section());
    let entries = |section: &Option<Section<'_>>| {
        section.iter().flat_map(Section::entries).map(|(name, _)| name).collect()
    };
    let declared: BTreeSet<String> = entries(&role_section);
    let tables = Tables { declared: &config.tables, has_ddl: !config.ddl.topics.is_empty() };
    let mut roles = Vec::new();
    if let Some(section) = &role_section {
        for (name, node) in section.entries() {
            roles.extend(role(section, &name, &node, &declared, &tables));
        }
    }
    let (mut users, mut seen) = (Vec::new(), BTreeSet::new());
    if let Some(section) = &user_section {
        for (name, node) in section.entries() {
            users.extend(user(section, &name, &node, &declared, &mut seen));
        }
    }
    if plans && root.is_sound() {
        check_grants(&roles, &users, &config.tables);
    }
    let roles = roles.into_iter().map(|role| role.def).collect();
    AccessConfig { users, roles }
}

/// Conditions are planned over their tables, and with the attributes that users and tokens have.
fn check_grants(placed: &[Placed<'_>], users: &[UserDef], tables: &[TableDef]) {
    let defs: Vec<RoleDef> = placed.iter().map(|role| role.def.clone()).collect();
    // Both of what this refuses has been reported.
    let Ok(roles) = Roles::new(defs.clone()) else { return };
    let mut identities = Vec::new();
    for user in users {
        let own = user.password.as_ref().map(|_| user.attributes.clone());
        let of_tokens = user.tokens.iter().map(|token| token.attributes_of(user));
        for attributes in own.into_iter().chain(of_tokens) {
            identities.extend(roles.identity(&user.name, &user.roles, &attributes));
        }
    }
    for problem in otus_sql::access::check(&defs, tables, &identities) {
        let role = placed.iter().find(|role| role.def.name == problem.role);
        let grant = |at: usize| role.and_then(|role| role.grants.get(at));
        let node = match problem.place {
            RolePlace::Filter(at) => grant(at).and_then(|grant| grant.filter.as_ref()),
            RolePlace::Grant(at) | RolePlace::Column(at, _) => grant(at).map(|grant| &grant.node),
            // Names have been looked at, with what may have been meant.
            RolePlace::Table(..) | RolePlace::Inherits => None,
        };
        let Some(node) = node else { continue };
        let hint = problem.error.hint.or(problem.error.detail).unwrap_or_default();
        let severity = if problem.is_warning { Severity::Warning } else { Severity::Error };
        node.report(severity, problem.error.message, hint);
    }
}

/// What grants may name.
struct Tables<'a> {
    declared: &'a [TableDef],
    /// Whether statements may declare more.
    has_ddl: bool,
}

fn role<'a>(
    roles: &Section<'a>,
    name: &str,
    node: &Node<'a>,
    declared: &BTreeSet<String>,
    tables: &Tables<'_>,
) -> Option<Placed<'a>> {
    if let Some((message, hint)) = names::refusal(name) {
        roles.report_key(name, Severity::Error, message, hint);
        return None;
    }
    let section = node.section()?;
    let inherits = known_roles(section.take("inherits"), declared);
    let admin = section.take("admin").and_then(|n| n.boolean()).unwrap_or_default();
    let monitor = section.take("monitor").and_then(|n| n.boolean()).unwrap_or_default();
    let attributes = attributes(section.take("attributes"));
    let limits = section.take("limits").and_then(|n| n.section());
    let limits = limits.map(|section| self::limits(&section)).unwrap_or_default();
    let list = section.take("grants");
    section.finish();
    if let Some(node) = list.as_ref().filter(|node| node.kind() != "array") {
        node.error_hint(
            format!("expected an array of tables, found {}", node.kind()),
            "for example grants = [{ tables = \"clicks\", columns = [\"page\", \"at\"] }]",
        );
    }
    let grants = list.iter().flat_map(Node::items).filter_map(|node| grant(node, tables));
    let grants: Vec<PlacedGrant<'_>> = grants.collect();
    let name = name.to_string();
    let defs = grants.iter().map(|grant| grant.def.clone()).collect();
    let def = RoleDef { name, inherits, admin, monitor, grants: defs, limits, attributes };
    Some(Placed { def, grants })
}

fn grant<'a>(node: Node<'a>, tables: &Tables<'_>) -> Option<PlacedGrant<'a>> {
    let section = node.section()?;
    let hint = "for example tables = [\"clicks\", \"sales.*\"]; \"*\" is every table of public";
    let named = section.require("tables", hint).and_then(|n| n.names()).unwrap_or_default();
    let columns = section.take("columns").and_then(|n| n.names());
    let filter_node = section.take("filter");
    let filter = filter_node.as_ref().and_then(Node::text);
    let (mut select, mut insert) = (true, false);
    if let Some(rights) = section.take("can").and_then(|n| n.names()) {
        (select, insert) = (false, false);
        for (right, node) in rights {
            match right.as_str() {
                "select" => select = true,
                "insert" => insert = true,
                _ => node.error_hint(format!("unknown right {right:?}"), "\"select\", \"insert\""),
            }
        }
    }
    section.finish();
    let mut matched: Vec<&TableDef> = Vec::new();
    for (name, node) in &named {
        let found = tables.matching(name);
        if found.is_empty() && !tables.is_of_system(name) {
            tables.missing(name, node);
        }
        matched.extend(found);
    }
    for (column, node) in columns.iter().flatten() {
        if !matched.is_empty() && !matched.iter().any(|table| has_column(table, column)) {
            let of: Vec<String> = matched.iter().map(|t| t.qualified_name()).collect();
            node.error_hint(
                format!("column {column:?} does not exist in {}", of.join(", ")),
                nearest(
                    column,
                    matched.iter().flat_map(|t| t.columns.iter().map(|c| c.name.as_str())),
                )
                .unwrap_or_else(|| "a grant names columns of its tables".into()),
            );
        }
    }
    let columns = columns.map(|all| all.into_iter().map(|(name, _)| name).collect());
    let tables = named.into_iter().map(|(name, _)| name).collect();
    let def = GrantDef { tables, columns, filter, select, insert };
    Some(PlacedGrant { def, node, filter: filter_node })
}

impl<'a> Tables<'a> {
    /// The declared tables that a grant's name or the beginning of one means.
    fn matching(&self, name: &str) -> Vec<&'a TableDef> {
        self.declared.iter().filter(|table| means(name, &table.schema, &table.name)).collect()
    }

    fn is_of_system(&self, name: &str) -> bool {
        name.split_once('.').is_some_and(|(schema, _)| SYSTEM_SCHEMAS.contains(&schema))
    }

    fn missing(&self, name: &str, node: &Node<'_>) {
        let all: Vec<String> = self.declared.iter().flat_map(names_of).collect();
        let near = nearest(name, all.iter().map(String::as_str));
        let hint = near.unwrap_or_else(|| "a grant names tables of this file".to_string());
        if name.ends_with('*') || self.has_ddl {
            node.warning_hint(format!("no table of this file is {name:?}"), hint);
        } else {
            node.error_hint(format!("table {name:?} does not exist"), hint);
        }
    }
}

/// The names by which a grant may call a table.
fn names_of(table: &TableDef) -> impl Iterator<Item = String> {
    let short = (table.schema == "public").then(|| table.name.clone());
    [table.qualified_name()].into_iter().chain(short)
}

fn has_column(table: &TableDef, name: &str) -> bool {
    table.columns.iter().any(|c| c.name == name)
        || names::SYSTEM_COLUMNS.contains(&name)
        || names::KEYED_COLUMNS.contains(&name)
}

fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<String> {
    units::nearest(name, known).map(|near| format!("did you mean {near:?}?"))
}

fn limits(section: &Section<'_>) -> RoleLimits {
    let limits = RoleLimits {
        timeout: section.take("timeout").and_then(|n| duration(&n)),
        memory_bytes: section.take("memory").and_then(|n| n.size_bytes()),
        rows: section.take("rows").and_then(|n| positive(&n)),
        concurrency: count(section, "concurrency"),
        connections: count(section, "connections"),
    };
    section.finish();
    limits
}

fn count(section: &Section<'_>, name: &'static str) -> Option<usize> {
    let number = section.take(name).and_then(|n| positive(&n))?;
    usize::try_from(number).ok()
}

fn positive(node: &Node<'_>) -> Option<u64> {
    let number = node.integer()?;
    let number = u64::try_from(number).ok().filter(|n| *n > 0);
    if number.is_none() {
        node.error("expected a whole number, 1 or more");
    }
    number
}

fn duration(node: &Node<'_>) -> Option<Duration> {
    node.duration_us().and_then(|us| u64::try_from(us).ok()).map(Duration::from_micros)
}

/// Values by name; numbers and booleans count as their texts.
fn attributes(node: Option<Node<'_>>) -> BTreeMap<String, String> {
    let section = node.and_then(|node| node.section());
    let entries = section.iter().flat_map(Section::entries);
    entries.filter_map(|(name, node)| Some((name, node.scalar_text()?))).collect()
}

fn known_roles(node: Option<Node<'_>>, declared: &BTreeSet<String>) -> Vec<String> {
    let named = node.and_then(|node| node.names()).unwrap_or_default();
    for (name, node) in named.iter().filter(|(name, _)| !declared.contains(name)) {
        let near = nearest(name, declared.iter().map(String::as_str));
        let hint = near.unwrap_or_else(|| format!("declare it as [roles.{name}]"));
        node.error_hint(format!("role {name:?} does not exist"), hint);
    }
    named.into_iter().map(|(name, _)| name).collect()
}

fn user(
    users: &Section<'_>,
    name: &str,
    node: &Node<'_>,
    declared: &BTreeSet<String>,
    seen: &mut BTreeSet<TokenHash>,
) -> Option<UserDef> {
    if let Some((message, hint)) = names::refusal(name) {
        users.report_key(name, Severity::Error, message, hint);
        return None;
    }
    let section = node.section()?;
    let (written, in_file) = (section.take("password"), section.take("password_file"));
    let password = match (&written, &in_file) {
        (Some(_), Some(node)) => {
            node.error_hint("there is a password already", "keep one of both");
            None
        }
        (Some(node), None) => node.text().and_then(|text| verifier(node, &text)),
        (None, Some(node)) => node.file_text().and_then(|text| verifier(node, &text)),
        (None, None) => None,
    };
    let list = section.take("tokens");
    if let Some(node) = list.as_ref().filter(|node| node.kind() != "array") {
        node.error_hint(
            format!("expected an array of tokens, found {}", node.kind()),
            "for example tokens = [\"sha256:…\"], as `otus password --token` prints it",
        );
    }
    let tokens: Vec<TokenDef> =
        list.iter().flat_map(Node::items).filter_map(|node| token(&node, seen)).collect();
    let roles = known_roles(section.take("roles"), declared);
    let attributes = attributes(section.take("attributes"));
    section.finish();
    if written.is_none() && in_file.is_none() && list.is_none() {
        let message = format!("user {name:?} can never sign in");
        let hint = "give a password (see `otus password`) or tokens (`otus password --token`)";
        users.report_key(name, Severity::Error, message, hint);
    }
    if roles.is_empty() {
        let message = format!("user {name:?} has no role and sees no table");
        users.report_key(name, Severity::Warning, message, "roles = [\"…\"]");
    }
    Some(UserDef { name: name.to_string(), password, tokens, roles, attributes })
}

/// Messages must not repeat the value: it may be a password.
fn verifier(node: &Node<'_>, text: &str) -> Option<Verifier> {
    let hint = "`otus password` prints what to write here";
    match text.trim().parse() {
        Ok(verifier) => Some(verifier),
        Err(VerifierError::NoVerifier) => {
            node.error_hint(
                "the password is written in clear text, or hashed by another scheme",
                hint,
            );
            None
        }
        Err(e) => {
            node.error_hint(e.to_string(), hint);
            None
        }
    }
}

fn token(node: &Node<'_>, seen: &mut BTreeSet<TokenHash>) -> Option<TokenDef> {
    let (written, name, expires, attributes) = if node.is_table() {
        let section = node.section()?;
        let hint = "hash = \"sha256:…\", as `otus password --token` prints it";
        let written = section.require("hash", hint);
        let name = section.take("name").and_then(|n| n.text());
        let expires = section.take("expires").and_then(|n| moment(&n));
        let attributes = attributes(section.take("attributes"));
        section.finish();
        (written?, name, expires, attributes)
    } else {
        (node.clone(), None, None, BTreeMap::new())
    };
    let hash = match written.text()?.trim().parse::<TokenHash>() {
        Ok(hash) => hash,
        Err(e) => {
            written.error_hint(e.to_string(), "`otus password --token` makes a token and its hash");
            return None;
        }
    };
    if !seen.insert(hash) {
        written.error_hint("there is another token with this hash", "make a token for each use");
    }
    Some(TokenDef { hash, name, expires_us: expires, attributes })
}

fn moment(node: &Node<'_>) -> Option<i64> {
    let text = node.moment_text()?;
    units::parse_moment_us(&text).map_err(|e| node.engine_error(&e)).ok()
}

/// The `[server.tls]` section. Its files are read when the server starts.
pub(super) fn tls(section: &Section<'_>) -> Option<TlsConfig> {
    let certificate = section
        .require("certificate", "for example certificate = \"/etc/otus/server.crt\"")
        .and_then(|n| n.text());
    let key =
        section.require("key", "for example key = \"/etc/otus/server.key\"").and_then(|n| n.text());
    let required = section.take("required").map(|node| required(&node)).unwrap_or_default();
    section.finish();
    Some(TlsConfig { certificate: PathBuf::from(certificate?), key: PathBuf::from(key?), required })
}

fn required(node: &Node<'_>) -> TlsRequired {
    match (node.kind(), node.as_text()) {
        ("boolean", _) if node.boolean() == Some(true) => TlsRequired::Everybody,
        ("boolean", _) => TlsRequired::Nobody,
        (_, Some("remote")) => TlsRequired::Remote,
        _ => {
            node.error("expected true, false or \"remote\"");
            TlsRequired::Everybody
        }
    }
}

#[cfg(test)]
mod tests;
