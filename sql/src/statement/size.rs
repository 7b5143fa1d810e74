//! How large a plan a query becomes, known before it is planned: a WITH query is planned wherever it is named, so a
//! short text can stand for a huge plan; and so can a CUBE.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Expr, GroupByExpr, Ident, ObjectName, Query, Select};

use crate::error::{SqlError, SqlResult, sqlstate};

/// Most relations and subqueries of a plan.
const RELATIONS_MAX: u64 = 1_000;
/// Most keys of one CUBE, as in Postgres.
const CUBE_MAX: usize = 12;
/// Most grouping sets of one GROUP BY, as in Postgres.
const GROUPING_SETS_MAX: u64 = 4_096;

/// Refuses a query whose plan would be too large to be made.
pub(super) fn check(query: &Query) -> SqlResult<()> {
    let mut size = Size { open: Vec::new(), error: None };
    let _flow = ast::Visit::visit(query, &mut size);
    size.error.map_or(Ok(()), Err)
}

struct Size {
    open: Vec<Open>,
    error: Option<SqlError>,
}

/// A query that is being counted.
struct Open {
    /// Name under which the one around it knows it, if it stands in its WITH.
    named: Option<String>,
    /// The queries of its own WITH, by address, and their names.
    to_name: Vec<(*const Query, String)>,
    /// What those that have been counted stand for.
    sizes: HashMap<String, u64>,
    size: u64,
}

impl ast::Visitor for Size {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let around = self.open.last();
        let named = around.and_then(|o| o.to_name.iter().find(|(at, _)| std::ptr::eq(*at, query)));
        let named = named.map(|(_, name)| name.clone());
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        let to_name = ctes.map(|c| (std::ptr::from_ref(&*c.query), folded(&c.alias.name)));
        let to_name = to_name.collect();
        self.open.push(Open { named, to_name, sizes: HashMap::new(), size: 1 });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        let Some(done) = self.open.pop() else { return ControlFlow::Continue(()) };
        if done.size > RELATIONS_MAX {
            let detail = format!("its plan would read more than {RELATIONS_MAX} relations");
            let hint = "a WITH query is planned wherever it is named: name it less often";
            let e = SqlError::new(sqlstate::TOO_COMPLEX, "statement is too complex");
            self.error = Some(e.with_detail(detail).with_hint(hint));
            return ControlFlow::Break(());
        }
        match (self.open.last_mut(), done.named) {
            (Some(around), Some(name)) => {
                around.sizes.insert(name, done.size);
            }
            (Some(around), None) => around.size = around.size.saturating_add(done.size),
            (None, _) => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let name = match relation.0.as_slice() {
            [part] => part.as_ident().map(folded),
            _ => None,
        };
        let known = name.and_then(|n| self.open.iter().rev().find_map(|o| o.sizes.get(&n)));
        let size = known.copied().unwrap_or(1);
        if let Some(open) = self.open.last_mut() {
            open.size = open.size.saturating_add(size);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        match grouping_sets(&select.group_by) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                self.error = Some(e);
                ControlFlow::Break(())
            }
        }
    }
}

fn folded(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}

fn grouping_sets(group_by: &GroupByExpr) -> SqlResult<()> {
    let GroupByExpr::Expressions(keys, _) = group_by else { return Ok(()) };
    let mut sets = 1_u64;
    for key in keys {
        let of_key = match key {
            Expr::Cube(parts) if parts.len() > CUBE_MAX => {
                let message = format!("CUBE is limited to {CUBE_MAX} elements");
                return Err(SqlError::new(sqlstate::TOO_MANY_COLUMNS, message));
            }
            Expr::Cube(parts) => 1 << parts.len(),
            Expr::Rollup(parts) => parts.len().saturating_add(1),
            Expr::GroupingSets(parts) => parts.len(),
            _ => 1,
        };
        sets = sets.saturating_mul(u64::try_from(of_key).unwrap_or(u64::MAX));
    }
    if sets > GROUPING_SETS_MAX {
        let message = format!("too many grouping sets present (maximum {GROUPING_SETS_MAX})");
        return Err(SqlError::new(sqlstate::TOO_COMPLEX, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    fn refused(sql: &str) -> Option<String> {
        parse(sql).err().map(|e| format!("{} {}", e.sqlstate, e.message))
    }

    #[test]
    fn plans_that_grow_with_each_name_are_refused() {
        let chain = |steps: usize, body: &str| {
            let ctes = (1..=steps).map(|i| {
                let before = format!("a{}", i - 1);
                format!(", \"a{i}\" AS ({})", body.replace('$', &before))
            });
            format!("WITH a0 AS (SELECT 1 AS c){} SELECT c FROM A{steps}", ctes.collect::<String>())
        };
        let twice = "SELECT x.c FROM $ x, $ y";
        assert_eq!(refused(&chain(7, twice)), None);
        let too_complex = Some("54001 statement is too complex".to_owned());
        assert_eq!(refused(&chain(20, twice)), too_complex);
        assert_eq!(refused(&chain(300, "SELECT c FROM $")), None);
        let within = "SELECT (SELECT max(c) FROM $) AS c FROM (SELECT * FROM $) t";
        assert_eq!(refused(&chain(20, within)), too_complex);
        // Named by nobody it is planned all the same.
        let unused = chain(20, twice).replace("FROM A20", "FROM a0");
        assert_eq!(refused(&unused), too_complex);
    }

    #[test]
    fn grouping_sets_have_the_bounds_of_postgres() {
        let keys = |n: usize| (0..n).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
        let cube = |n| format!("SELECT count(*) FROM t GROUP BY CUBE ({})", keys(n));
        assert_eq!(refused(&cube(12)), None);
        let many = Some("54011 CUBE is limited to 12 elements".to_owned());
        assert_eq!(refused(&cube(13)), many);
        let both = format!("{}, ROLLUP ({})", cube(12), keys(1));
        let sets = "54001 too many grouping sets present (maximum 4096)";
        assert_eq!(refused(&both), Some(sets.to_owned()));
    }
}
