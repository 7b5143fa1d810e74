//! How large a plan a query becomes, known before it is planned: a WITH query is planned wherever it is named, so a
//! short text can stand for a huge plan; and so can a CUBE.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, FunctionArguments, GroupByExpr, Ident, ObjectName, OrderByKind, Query, Select,
    SetExpr,
};

use super::COLUMNS_MAX;
use super::depth::too_many_columns;
use crate::error::{SqlError, SqlResult, sqlstate};

/// Most relations and subqueries of a plan.
const RELATIONS_MAX: u64 = 1_000;
/// Most queries that read one another in a row: the memory of a plan grows with the square of it.
const CHAIN_MAX: u64 = 400;
/// Most nodes of a syntax tree.
const NODES_MAX: u64 = 200_000;
/// What anything counts that is no literal: a name, an operator, a call.
const NODE_WEIGHT: u64 = 4;
/// Most arguments of a call, as in Postgres.
const ARGUMENTS_MAX: usize = 100;
/// What Postgres does not take for functions.
const OF_ANY_LENGTH: [&str; 3] = ["coalesce", "greatest", "least"];
/// Most keys of one CUBE, as in Postgres.
const CUBE_MAX: usize = 12;
/// Most grouping sets of one GROUP BY, as in Postgres.
const GROUPING_SETS_MAX: u64 = 4_096;

/// Refuses a query whose plan would be too large to be made.
pub(super) fn check(query: &Query) -> SqlResult<()> {
    let mut size = Size { open: Vec::new(), nodes: 0, error: None };
    let _flow = ast::Visit::visit(query, &mut size);
    size.error.map_or(Ok(()), Err)
}

/// How large a syntax tree is: its literals, and more for anything else.
pub(super) fn nodes(query: &Query) -> u64 {
    let mut nodes = 0_u64;
    let _flow: ControlFlow<()> = ast::visit_expressions(query, |expr| {
        nodes = nodes.saturating_add(weight(expr));
        ControlFlow::Continue(())
    });
    nodes
}

fn weight(expr: &Expr) -> u64 {
    match expr {
        Expr::Value(_) => 1,
        _ => NODE_WEIGHT,
    }
}

fn too_complex(detail: String) -> SqlError {
    SqlError::new(sqlstate::TOO_COMPLEX, "statement is too complex").with_detail(detail)
}

struct Size {
    open: Vec<Open>,
    nodes: u64,
    error: Option<SqlError>,
}

/// A query that is being counted.
struct Open {
    /// Name under which the one around it knows it, if it stands in its WITH.
    named: Option<String>,
    /// The queries of its own WITH, by address, and their names.
    to_name: Vec<(*const Query, String)>,
    /// What those that have been counted stand for.
    sizes: HashMap<String, Extent>,
    extent: Extent,
}

/// How large the plan of a query is.
#[derive(Clone, Copy)]
struct Extent {
    /// Relations and subqueries.
    size: u64,
    /// How many of them read one another in a row.
    chain: u64,
}

impl Extent {
    const ONE: Self = Self { size: 1, chain: 0 };

    /// With another that it reads.
    fn reading(self, other: Self) -> Self {
        Self { size: self.size.saturating_add(other.size), chain: self.chain.max(other.chain) }
    }
}

impl ast::Visitor for Size {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let sorted = query.order_by.as_ref().map_or(0, |order| match &order.kind {
            OrderByKind::Expressions(keys) => keys.len(),
            OrderByKind::All(_) => 0,
        });
        let rows = match query.body.as_ref() {
            SetExpr::Values(values) => values.rows.first().map_or(0, |row| row.content.len()),
            _ => 0,
        };
        self.columns(sorted.max(rows))?;
        let around = self.open.last();
        let named = around.and_then(|o| o.to_name.iter().find(|(at, _)| std::ptr::eq(*at, query)));
        let named = named.map(|(_, name)| name.clone());
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        let to_name = ctes.map(|c| (std::ptr::from_ref(&*c.query), folded(&c.alias.name)));
        let to_name = to_name.collect();
        self.open.push(Open { named, to_name, sizes: HashMap::new(), extent: Extent::ONE });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        let Some(done) = self.open.pop() else { return ControlFlow::Continue(()) };
        let done_is = Extent { chain: done.extent.chain + 1, ..done.extent };
        if done_is.size > RELATIONS_MAX {
            let detail = format!("its plan would read more than {RELATIONS_MAX} relations");
            let hint = "a WITH query is planned wherever it is named: name it less often";
            self.error = Some(too_complex(detail).with_hint(hint));
            return ControlFlow::Break(());
        }
        if done_is.chain > CHAIN_MAX {
            let detail = format!("more than {CHAIN_MAX} queries read one another in a row");
            self.error = Some(too_complex(detail));
            return ControlFlow::Break(());
        }
        match (self.open.last_mut(), done.named) {
            (Some(around), Some(name)) => {
                around.sizes.insert(name, done_is);
            }
            (Some(around), None) => around.extent = around.extent.reading(done_is),
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
        let read = known.copied().unwrap_or(Extent::ONE);
        if let Some(open) = self.open.last_mut() {
            open.extent = open.extent.reading(read);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.nodes = self.nodes.saturating_add(weight(expr));
        let refused = match expr {
            _ if self.nodes > NODES_MAX => {
                let most = NODES_MAX / NODE_WEIGHT;
                Some(too_complex(format!(
                    "it has more than {NODES_MAX} literals, or {most} other expressions"
                )))
            }
            Expr::Function(call) => too_many_arguments(call),
            _ => None,
        };
        self.flow(refused)
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        if let GroupByExpr::Expressions(keys, _) = &select.group_by {
            self.columns(keys.len())?;
        }
        self.columns(select.projection.len())?;
        match grouping_sets(&select.group_by) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                self.error = Some(e);
                ControlFlow::Break(())
            }
        }
    }
}

impl Size {
    fn flow(&mut self, refused: Option<SqlError>) -> ControlFlow<()> {
        self.error = refused;
        match self.error {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    }

    /// Refuses a list of columns that is too long.
    fn columns(&mut self, count: usize) -> ControlFlow<()> {
        self.flow((count > COLUMNS_MAX).then(too_many_columns))
    }
}

fn too_many_arguments(call: &ast::Function) -> Option<SqlError> {
    let FunctionArguments::List(list) = &call.args else { return None };
    let name = call.name.to_string().to_lowercase();
    let most = if OF_ANY_LENGTH.contains(&name.as_str()) { COLUMNS_MAX } else { ARGUMENTS_MAX };
    (list.args.len() > most).then(|| {
        let message = format!("cannot pass more than {most} arguments to a function");
        SqlError::new(sqlstate::TOO_MANY_ARGUMENTS, message)
    })
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
    fn lists_are_bounded_as_in_postgres() {
        let list = |count: usize, part: &str| vec![part; count].join(", ");
        let entries = Some("54011 target lists can have at most 1664 entries".to_owned());
        assert_eq!(refused(&format!("SELECT {}", list(1_664, "1"))), None);
        assert_eq!(refused(&format!("SELECT {}", list(1_665, "1"))), entries);
        assert_eq!(refused(&format!("SELECT 1; SELECT (SELECT {})", list(1_665, "1"))), entries);
        assert_eq!(refused(&format!("VALUES ({})", list(1_665, "1"))), entries);
        assert_eq!(refused(&format!("SELECT 1 GROUP BY {}", list(1_665, "a"))), entries);
        assert_eq!(refused(&format!("SELECT 1 FROM t ORDER BY {}", list(1_665, "a"))), entries);
        assert_eq!(refused(&format!("SELECT a FROM t WHERE a IN ({})", list(20_000, "1"))), None);
        assert_eq!(refused(&format!("SELECT ARRAY[{}]", list(20_000, "1"))), None);
        let arguments = Some("54023 cannot pass more than 100 arguments to a function".to_owned());
        assert_eq!(refused(&format!("SELECT concat({})", list(100, "a"))), None);
        assert_eq!(refused(&format!("SELECT concat({})", list(101, "a"))), arguments);
        assert_eq!(refused(&format!("SELECT coalesce({})", list(101, "a"))), None);
    }

    #[test]
    fn queries_read_one_another_in_a_row_of_bounded_length() {
        let chain = |count: usize| {
            let link = |i: usize| match i {
                0 => "a0 AS (SELECT 1)".to_owned(),
                i => format!("a{i} AS (SELECT * FROM a{})", i - 1),
            };
            let links: Vec<_> = (0..count).map(link).collect();
            format!("WITH {} SELECT * FROM a{}", links.join(", "), count - 1)
        };
        assert_eq!(refused(&chain(399)), None);
        let too_complex = Some("54001 statement is too complex".to_owned());
        assert_eq!(refused(&chain(400)), too_complex);
        // Beside one another there may be more.
        assert_eq!(refused(&vec!["SELECT 1"; 900].join(" UNION ALL ")), None);
    }

    #[test]
    fn a_statement_has_a_bounded_number_of_nodes() {
        let rows = |count: usize, row: &str| format!("VALUES {}", vec![row; count].join(", "));
        let too_complex = Some("54001 statement is too complex".to_owned());
        assert_eq!(refused(&rows(20_000, "(1, 'a')")), None);
        assert_eq!(refused(&rows(100_001, "(1, 2)")), too_complex);
        assert_eq!(refused(&rows(50_001, "(a)")), too_complex);
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
