//! Who may see what. Roles are declared once per engine; an [`Identity`] is one user with its roles, fixed when
//! the session begins: nothing that a statement says can change it.

mod check;
mod filter;
mod guard;
mod limits;
mod places;
mod right;
mod view;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{SqlError, SqlResult, sqlstate};
pub use check::{RolePlace, RoleProblem, check};
pub(crate) use guard::{Guard, Sieve};
pub(crate) use limits::{Allowance, Running};
pub(crate) use places::Places;
pub use right::means;
pub(crate) use view::Views;

/// A role: what its members may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleDef {
    /// Its name.
    pub name: String,
    /// Roles whose grants its members have too.
    pub inherits: Vec<String>,
    /// Whether its members may see and do everything.
    pub admin: bool,
    /// Whether its members may ask the server how it does: `/metrics`, and what `/readyz` says beside its status.
    pub monitor: bool,
    /// What it may see and append to.
    pub grants: Vec<GrantDef>,
    /// Bounds of its members' statements.
    pub limits: RoleLimits,
    /// Values that row filters read by name.
    pub attributes: BTreeMap<String, String>,
}

/// What a role may do with some tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrantDef {
    /// Tables as `schema.table`, `table` (of `public`), or the beginning of either followed by `*`.
    pub tables: Vec<String>,
    /// The only columns that may be seen; none = all.
    pub columns: Option<Vec<String>>,
    /// Which rows may be seen: a condition over the table's columns; none = all.
    pub filter: Option<String>,
    /// Whether rows may be read.
    pub select: bool,
    /// Whether events may be appended to the table's log, rows of a keyed table written.
    pub insert: bool,
}

/// Bounds of the statements of a role's members; of several roles the widest counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleLimits {
    /// Longest time of a statement.
    pub timeout: Option<Duration>,
    /// Memory of one statement, bytes.
    pub memory_bytes: Option<u64>,
    /// Most rows of an answer.
    pub rows: Option<u64>,
    /// Most statements of one user at a time.
    pub concurrency: Option<usize>,
    /// Most sessions of one user at a time.
    pub connections: Option<usize>,
}

/// A user as a session knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user's name.
    pub user: String,
    /// Its roles, inherited ones included, in the order of their declaration.
    pub roles: Vec<Arc<RoleDef>>,
    /// Values that row filters read: those of the roles, then those of the user or its token.
    pub attributes: BTreeMap<String, String>,
}

impl Identity {
    /// Whether it may see and do everything.
    pub fn is_admin(&self) -> bool {
        self.roles.iter().any(|role| role.admin)
    }

    /// Whether it may ask the server how it does.
    pub fn may_monitor(&self) -> bool {
        self.roles.iter().any(|role| role.admin || role.monitor)
    }
}

impl Hash for Identity {
    // Roles are told apart by their names: one process has them once.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.user.hash(state);
        self.attributes.hash(state);
        self.roles.iter().for_each(|role| role.name.hash(state));
    }
}

/// The roles of an engine.
#[derive(Debug, Clone, Default)]
pub struct Roles(Vec<Arc<RoleDef>>);

impl Roles {
    /// Roles as declared. Their names must differ and what they inherit must exist.
    pub fn new(roles: Vec<RoleDef>) -> SqlResult<Self> {
        let roles = Self(roles.into_iter().map(Arc::new).collect());
        for (at, role) in roles.0.iter().enumerate() {
            if roles.0.iter().take(at).any(|other| other.name == role.name) {
                let message = format!("role \"{}\" is declared twice", role.name);
                return Err(SqlError::new(sqlstate::DUPLICATE_OBJECT, message));
            }
            role.inherits.iter().try_for_each(|name| roles.find(name).map(|_| ()))?;
        }
        Ok(roles)
    }

    /// All of them, in the order of their declaration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<RoleDef>> {
        self.0.iter()
    }

    fn find(&self, name: &str) -> SqlResult<&Arc<RoleDef>> {
        self.0.iter().find(|role| role.name == name).ok_or_else(|| {
            SqlError::new(sqlstate::UNDEFINED_OBJECT, format!("role \"{name}\" does not exist"))
        })
    }

    /// A user with roles and attributes of its own.
    pub fn identity(
        &self,
        user: &str,
        roles: &[String],
        own: &BTreeMap<String, String>,
    ) -> SqlResult<Arc<Identity>> {
        let mut wanted: Vec<&str> = Vec::new();
        let mut open: Vec<&str> = roles.iter().map(String::as_str).collect();
        while let Some(name) = open.pop() {
            if !wanted.contains(&name) {
                wanted.push(name);
                open.extend(self.find(name)?.inherits.iter().map(String::as_str));
            }
        }
        let roles: Vec<_> =
            self.0.iter().filter(|r| wanted.contains(&r.name.as_str())).cloned().collect();
        let mut attributes = BTreeMap::new();
        for role in &roles {
            attributes.extend(role.attributes.clone());
        }
        attributes.extend(own.clone());
        Ok(Arc::new(Identity { user: user.to_owned(), roles, attributes }))
    }
}
