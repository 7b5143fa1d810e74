//! `a RIGHT JOIN b USING (v)`: the planner takes `v` for that of `a`, which is null where only `b` has a row. It is named
//! as what it stands for: `b.v`, and in a full join the one that is there.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, Ident, JoinConstraint, JoinOperator, Query, Select, SelectItem, TableFactor,
    TableWithJoins,
};

use super::folded;
use super::rewrite::call;
use crate::error::{SqlError, SqlResult};

/// Names the columns of outer joins, everywhere in a query.
pub(super) fn merged_columns(query: &mut Query) -> SqlResult<()> {
    struct Merged;
    impl ast::VisitorMut for Merged {
        type Break = SqlError;
        fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
            match merged(select) {
                Ok(()) => ControlFlow::Continue(()),
                Err(e) => ControlFlow::Break(e),
            }
        }
    }
    match ast::VisitMut::visit(query, &mut Merged) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(e) => Err(e),
    }
}

/// A column of USING, and what it stands for.
struct Column {
    name: String,
    value: Expr,
}

fn merged(select: &mut Select) -> SqlResult<()> {
    let mut columns = Vec::new();
    for table in &select.from {
        columns.extend(of_table(table)?);
    }
    if columns.is_empty() {
        return Ok(());
    }
    let all = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_));
    if select.projection.iter().any(all) {
        return Err(unsupported("name the columns in place of *"));
    }
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr @ Expr::Identifier(_)) = item
            && let Expr::Identifier(name) = &*expr
            && columns.iter().any(|column| column.name == folded(name))
        {
            let alias = name.clone();
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            replace(expr, &columns);
        }
    }
    replace(&mut select.selection, &columns);
    replace(&mut select.group_by, &columns);
    replace(&mut select.having, &columns);
    Ok(())
}

fn unsupported(hint: &str) -> SqlError {
    SqlError::unsupported(
        "RIGHT and FULL JOIN with USING or NATURAL are supported of two tables only",
    )
    .with_hint(hint)
}

fn of_table(table: &TableWithJoins) -> SqlResult<Vec<Column>> {
    let mut columns = Vec::new();
    for join in &table.joins {
        let (constraint, is_full) = match &join.join_operator {
            JoinOperator::Right(on) | JoinOperator::RightOuter(on) => (on, false),
            JoinOperator::FullOuter(on) => (on, true),
            _ => continue,
        };
        let names = match constraint {
            JoinConstraint::Using(names) => names,
            JoinConstraint::Natural => return Err(unsupported("join them with ON")),
            _ => continue,
        };
        let sides = name_of(&table.relation).zip(name_of(&join.relation));
        let (Some((left, right)), 1) = (sides, table.joins.len()) else {
            return Err(unsupported("join them with ON"));
        };
        for name in names {
            let Some(column) = name.0.last().and_then(|part| part.as_ident()) else { continue };
            let of = |table: &Ident| Expr::CompoundIdentifier(vec![table.clone(), column.clone()]);
            let value = match is_full {
                true => call("coalesce", [of(&left), of(&right)]),
                false => of(&right),
            };
            columns.push(Column { name: folded(column), value });
        }
    }
    Ok(columns)
}

/// The name by which a relation's columns are qualified.
fn name_of(relation: &TableFactor) -> Option<Ident> {
    match relation {
        TableFactor::Table { name, alias, .. } => match alias {
            Some(alias) => Some(alias.name.clone()),
            None => name.0.last()?.as_ident().cloned(),
        },
        TableFactor::Derived { alias, .. } => alias.as_ref().map(|alias| alias.name.clone()),
        _ => None,
    }
}

/// Puts the values in the place of bare names, but not within subqueries, which may have columns of these names.
fn replace(node: &mut impl ast::VisitMut, columns: &[Column]) {
    struct Replace<'a> {
        columns: &'a [Column],
        depth: usize,
    }
    impl ast::VisitorMut for Replace<'_> {
        type Break = ();
        fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Identifier(name) = &*expr
                && self.depth == 0
                && let Some(column) = self.columns.iter().find(|c| c.name == folded(name))
            {
                *expr = column.value.clone();
            }
            ControlFlow::Continue(())
        }
    }
    let _flow = node.visit(&mut Replace { columns, depth: 0 });
}
