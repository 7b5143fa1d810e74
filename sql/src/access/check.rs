//! What is wrong with roles over the tables of a configuration: found before a server starts.

use std::sync::Arc;

use otus_engine::catalog::TableDef;

use super::filter::{self, Whose};
use super::{GrantDef, Identity, RoleDef};
use crate::error::{SqlError, sqlstate};

/// The part of a role that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolePlace {
    /// The roles that it inherits.
    Inherits,
    /// A grant, by its place in the role.
    Grant(usize),
    /// A pattern among the tables of a grant.
    Table(usize, String),
    /// A column of a grant.
    Column(usize, String),
    /// The filter of a grant.
    Filter(usize),
}

/// What is wrong with a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleProblem {
    /// Name of the role.
    pub role: String,
    /// Where in it.
    pub place: RolePlace,
    /// What.
    pub error: Box<SqlError>,
    /// Whether the server may start all the same: less is seen than was perhaps meant, never more.
    pub is_warning: bool,
}

/// What is wrong with roles over these tables, and with what `users` lack for them.
pub fn check(roles: &[RoleDef], tables: &[TableDef], users: &[Arc<Identity>]) -> Vec<RoleProblem> {
    let mut work = Check { roles, tables, users, problems: Vec::new() };
    for role in roles {
        work.role(role);
    }
    work.problems
}

struct Check<'a> {
    roles: &'a [RoleDef],
    tables: &'a [TableDef],
    users: &'a [Arc<Identity>],
    problems: Vec<RoleProblem>,
}

impl Check<'_> {
    fn problem(&mut self, role: &RoleDef, place: RolePlace, error: SqlError, is_warning: bool) {
        let (role, error) = (role.name.clone(), Box::new(error));
        self.problems.push(RoleProblem { role, place, error, is_warning });
    }

    fn role(&mut self, role: &RoleDef) {
        for name in &role.inherits {
            if !self.roles.iter().any(|known| known.name == *name) {
                let message = format!("role \"{name}\" does not exist");
                let error = SqlError::new(sqlstate::UNDEFINED_OBJECT, message);
                self.problem(role, RolePlace::Inherits, error, false);
            }
        }
        for (at, grant) in role.grants.iter().enumerate() {
            self.grant(role, at, grant);
        }
    }

    fn grant(&mut self, role: &RoleDef, at: usize, grant: &GrantDef) {
        if !grant.select && !grant.insert {
            let error = SqlError::new(sqlstate::INVALID_PARAMETER, "the grant gives no right");
            let error = error.with_hint("rights are select and insert");
            self.problem(role, RolePlace::Grant(at), error, true);
        }
        for pattern in &grant.tables {
            let means = |def: &&TableDef| super::means(pattern, &def.schema, &def.name);
            if !self.tables.iter().any(|def| means(&def)) {
                // Tables may be declared by statements, and come later.
                let message = format!("{pattern:?} means no table that is declared");
                let error = SqlError::new(sqlstate::UNDEFINED_TABLE, message);
                let error = error.with_hint("views of a rollup are granted with its table");
                self.problem(role, RolePlace::Table(at, pattern.clone()), error, true);
            }
        }
        let tables = self.tables;
        let meant: Vec<&TableDef> =
            tables.iter().filter(|def| grant.is_of(&def.schema, &def.name)).collect();
        self.columns(role, at, grant, &meant);
        if let Some(sql) = &grant.filter {
            self.filter(role, at, sql, &meant);
        }
    }

    fn columns(&mut self, role: &RoleDef, at: usize, grant: &GrantDef, meant: &[&TableDef]) {
        for name in grant.columns.iter().flatten() {
            let has = |def: &&TableDef| def.arrow_schema().index_of(name).is_ok();
            if !meant.is_empty() && !meant.iter().any(has) {
                let tables: Vec<_> = meant.iter().map(|def| def.qualified_name()).collect();
                let message = format!("there is no column \"{name}\" in {}", tables.join(", "));
                let error = SqlError::new(sqlstate::UNDEFINED_COLUMN, message);
                self.problem(role, RolePlace::Column(at, name.clone()), error, false);
            }
        }
        for def in meant {
            let Some(needed) = grant.misses(def) else { continue };
            let what = if def.keyed().is_some() { "the key" } else { "the event time" };
            let message =
                format!("{what} of {}, \"{needed}\", is not granted", def.qualified_name());
            let error = SqlError::new(sqlstate::INVALID_PARAMETER, message)
                .with_hint("without it the grant gives nothing: name it among the columns");
            self.problem(role, RolePlace::Column(at, needed.to_owned()), error, false);
        }
    }

    fn filter(&mut self, role: &RoleDef, at: usize, sql: &str, meant: &[&TableDef]) {
        for def in meant {
            let schema = def.arrow_schema();
            if let Err(e) = filter::condition(&schema, sql, Whose::Any) {
                let message = format!("{}: {}", def.qualified_name(), e.message);
                let error = SqlError { message, ..e };
                self.problem(role, RolePlace::Filter(at), error, false);
                continue;
            }
            for user in self.users {
                if user.is_admin() || !user.roles.iter().any(|of| of.name == role.name) {
                    continue;
                }
                let mut lacks = filter::lacking(&schema, sql, user).unwrap_or_default();
                if let Err(e) = filter::condition(&schema, sql, Whose::Of(user)) {
                    let message = format!("for user \"{}\": {}", user.user, e.message);
                    self.problem(role, RolePlace::Filter(at), SqlError { message, ..e }, false);
                }
                lacks.dedup();
                for name in lacks {
                    let message = format!(
                        "user \"{}\" has no attribute \"{name}\": it sees no rows by this grant",
                        user.user
                    );
                    let error = SqlError::new(sqlstate::UNDEFINED_OBJECT, message);
                    let known = |p: &RoleProblem| *p.error == error && p.role == role.name;
                    if !self.problems.iter().any(known) {
                        self.problem(role, RolePlace::Filter(at), error, true);
                    }
                }
            }
        }
    }
}
