//! Which tables a grant means, and the rights that are asked for outside of statements.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::or;
use otus_engine::compiled::CompiledTable;

use super::filter::{self, Whose};
use super::guard::passes;
use super::{GrantDef, Identity};
use crate::catalog::PUBLIC_SCHEMA;
use crate::error::{SqlError, SqlResult, sqlstate};

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

    /// Whether it may read rows of a table, or this column of it.
    pub fn may_select(&self, schema: &str, name: &str, column: Option<&str>) -> bool {
        self.has(schema, name, |grant| {
            let has =
                |column| grant.columns.as_ref().is_none_or(|all| all.iter().any(|c| c == column));
            grant.select && column.is_none_or(has)
        })
    }

    /// Whether it may append to a table's log, or write rows of a keyed table.
    pub fn may_insert(&self, schema: &str, name: &str) -> bool {
        self.has(schema, name, |grant| grant.insert)
    }

    /// Whether it may append any row to a table's log.
    pub fn inserts_freely(&self, schema: &str, name: &str) -> bool {
        self.has(schema, name, |grant| {
            grant.insert && grant.filter.is_none() && grant.columns.is_none()
        })
    }

    /// The only columns of a table that its rows may bring; none = all.
    pub fn insert_columns(&self, schema: &str, name: &str) -> Option<Vec<&str>> {
        if self.has(schema, name, |grant| grant.insert && grant.columns.is_none()) {
            return None;
        }
        let means = |grant: &&GrantDef| grant.tables.iter().any(|p| means(p, schema, name));
        let grants = self.roles.iter().flat_map(|role| &role.grants);
        let columns = grants.filter(|grant| grant.insert).filter(means);
        let columns = columns.flat_map(|grant| grant.columns.iter().flatten());
        Some(columns.map(String::as_str).collect())
    }

    /// Refuses rows of a table's raw schema if none of the grants by which it may insert there has a filter that is true
    /// of them: nobody writes what a filter gives to others.
    ///
    /// # Errors
    ///
    /// 42501, without values of the rows.
    pub fn check_new_rows(&self, table: &CompiledTable, rows: &RecordBatch) -> SqlResult<()> {
        let (schema, name) = (&table.def.schema, &table.def.name);
        if self.has(schema, name, |grant| grant.insert && grant.filter.is_none()) {
            return Ok(());
        }
        let all = self.roles.iter().flat_map(|role| &role.grants).filter(|grant| {
            grant.insert && grant.tables.iter().any(|pattern| means(pattern, schema, name))
        });
        let refused = || {
            let message = format!("new row violates the row filters for table \"{name}\"");
            SqlError::new(sqlstate::NOT_ALLOWED, message).with_hint(
                "rows are taken of which the filter of a grant with the right \"insert\" is true",
            )
        };
        let mut passed = BooleanArray::from(vec![false; rows.num_rows()]);
        for sql in all.filter_map(|grant| grant.filter.as_deref()) {
            let found = filter::condition(&table.schema, sql, Whose::Of(self))?;
            let Some(condition) = found else { continue };
            // What a filter fails on says what the row holds.
            let asked = passes(&condition.expr, rows, &|_| {}).map_err(|_| refused())?;
            passed = or(&passed, &asked).map_err(|_| refused())?;
        }
        match passed.true_count() == rows.num_rows() {
            true => Ok(()),
            false => Err(refused()),
        }
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
