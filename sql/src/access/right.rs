//! Which tables a grant means, and the rights that are asked for outside of statements.

use super::{GrantDef, Identity};
use crate::catalog::PUBLIC_SCHEMA;

/// Whether a pattern of a grant means a table: `schema.table`, `table` (of `public`), the beginning of either
/// followed by `*`, or `*` for all.
pub fn means(pattern: &str, schema: &str, name: &str) -> bool {
    let full = format!("{schema}.{name}");
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(start) if start.contains('.') => full.starts_with(start),
        Some(start) => schema == PUBLIC_SCHEMA && name.starts_with(start),
        None if pattern.contains('.') => full == pattern,
        None => schema == PUBLIC_SCHEMA && name == pattern,
    }
}

impl Identity {
    fn has(&self, schema: &str, name: &str, right: impl Fn(&GrantDef) -> bool) -> bool {
        let of = |grant: &GrantDef| grant.tables.iter().any(|p| means(p, schema, name));
        let mut grants = self.roles.iter().flat_map(|role| &role.grants);
        self.is_admin() || grants.any(|grant| right(grant) && of(grant))
    }

    /// Whether it may append to a table's log, or write rows of a keyed table.
    pub fn may_insert(&self, schema: &str, name: &str) -> bool {
        self.has(schema, name, |grant| grant.insert)
    }

    /// Whether it may see every row and column of a table.
    pub fn sees_whole(&self, schema: &str, name: &str) -> bool {
        let whole =
            |grant: &GrantDef| grant.select && grant.columns.is_none() && grant.filter.is_none();
        self.has(schema, name, whole)
    }
}

#[cfg(test)]
mod tests {
    use super::means;

    #[test]
    fn patterns_mean_tables_as_statements_do() {
        assert!(means("clicks", "public", "clicks") && means("public.clicks", "public", "clicks"));
        assert!(!means("clicks", "sales", "clicks") && !means("clicks", "public", "clicks2"));
        assert!(means("cl*", "public", "clicks") && !means("cl*", "sales", "clicks"));
        assert!(means("sales.*", "sales", "clicks") && !means("sales.*", "public", "sales"));
        assert!(means("*", "sales", "clicks"));
    }
}
