//! `a LEFT JOIN b USING (v)`: `v` is that of the left side, of the right side in a right join, and in a full join the
//! one that is there; `*` gives merged columns first and once, then the others of each side, as in Postgres. The planner
//! takes the table whose name sorts first. Such a join gets a condition in place of USING or NATURAL, and what stands for
//! its columns is named.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, Ident, JoinConstraint, JoinOperator, OrderBy, OrderByKind, Query,
    Select, SelectItem, SetExpr, TableFactor, TableWithJoins, With,
};

use crate::error::{SqlError, SqlResult, sqlstate};
use crate::statement::{call, factors, folded, subquery};

/// Names the columns of merging joins, everywhere in a statement.
pub(crate) async fn named(state: &SessionState, statement: &mut ast::Statement) -> SqlResult<()> {
    let known = columns_of_relations(state, statement, merges).await;
    if known.is_empty() {
        return Ok(());
    }
    match ast::VisitMut::visit(statement, &mut Name { known }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(e) => Err(e),
    }
}

/// The columns of the relations of the selects that something is true of, in the order in which they are met.
pub(crate) async fn columns_of_relations(
    state: &SessionState,
    statement: &ast::Statement,
    of: fn(&Select) -> bool,
) -> VecDeque<Option<Vec<String>>> {
    let mut asked = Asked { of, withs: Vec::new(), relations: Vec::new() };
    let _flow = ast::Visit::visit(statement, &mut asked);
    let mut known = VecDeque::with_capacity(asked.relations.len());
    for query in asked.relations {
        known.push_back(columns_of(state, query).await);
    }
    known
}

/// The columns of a relation; none if it cannot be planned by itself.
async fn columns_of(state: &SessionState, query: Query) -> Option<Vec<String>> {
    let statement = ast::Statement::Query(Box::new(query));
    let plan = state.statement_to_plan(DfStatement::Statement(Box::new(statement))).await.ok()?;
    Some(plan.schema().fields().iter().map(|field| field.name().clone()).collect())
}

/// The relations of some selects, each as a query of its own, in the order in which they are met.
struct Asked {
    of: fn(&Select) -> bool,
    withs: Vec<Option<With>>,
    relations: Vec<Query>,
}

impl ast::Visitor for Asked {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.withs.push(query.with.clone());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.withs.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        if !(self.of)(select) {
            return ControlFlow::Continue(());
        }
        let mut with: Option<With> = None;
        for outer in self.withs.iter().flatten() {
            match &mut with {
                Some(with) => {
                    with.recursive |= outer.recursive;
                    let inner = |name: &Ident| {
                        outer.cte_tables.iter().any(|own| folded(&own.alias.name) == folded(name))
                    };
                    with.cte_tables.retain(|cte| !inner(&cte.alias.name));
                    with.cte_tables.extend(outer.cte_tables.iter().cloned());
                }
                None => with = Some(outer.clone()),
            }
        }
        for factor in factors(select) {
            let Ok(mut query) = subquery("SELECT * FROM relation") else { continue };
            query.with.clone_from(&with);
            if let SetExpr::Select(select) = query.body.as_mut() {
                select.from = vec![TableWithJoins { relation: factor.clone(), joins: Vec::new() }];
            }
            self.relations.push(*query);
        }
        ControlFlow::Continue(())
    }
}

/// Whether a select needs its merged columns named: one that gives all of them, or has an outer join of the other side.
fn merges(select: &Select) -> bool {
    let joins = select.from.iter().flat_map(|table| &table.joins);
    let mut merging = joins.filter_map(Kind::of).filter(Kind::merges);
    let all = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_));
    match select.projection.iter().any(all) {
        true => merging.next().is_some(),
        false => merging.any(|kind| kind.value != Value::Left),
    }
}

/// Which side a merged column is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Left,
    Right,
    Either,
}

struct Kind<'a> {
    constraint: &'a JoinConstraint,
    value: Value,
    is_inner: bool,
}

impl<'a> Kind<'a> {
    /// None of joins that give no columns of one side.
    fn of(join: &'a ast::Join) -> Option<Self> {
        use JoinOperator as J;
        let (constraint, value, is_inner) = match &join.join_operator {
            J::Join(on) | J::Inner(on) | J::CrossJoin(on) => (on, Value::Left, true),
            J::Left(on) | J::LeftOuter(on) => (on, Value::Left, false),
            J::Right(on) | J::RightOuter(on) => (on, Value::Right, false),
            J::FullOuter(on) => (on, Value::Either, false),
            _ => return None,
        };
        Some(Self { constraint, value, is_inner })
    }

    fn merges(&self) -> bool {
        matches!(self.constraint, JoinConstraint::Using(_) | JoinConstraint::Natural)
    }
}

/// A column that `*` gives.
#[derive(Clone)]
struct Column {
    name: String,
    value: Expr,
    is_merged: bool,
}

struct Name {
    /// By relation, in the order of [`columns_of_relations`].
    known: VecDeque<Option<Vec<String>>>,
}

impl ast::VisitorMut for Name {
    type Break = SqlError;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
        match self.select(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => ControlFlow::Break(e),
        }
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        // Sort keys that name what the select gives are names of outputs, others are columns.
        if let (SetExpr::Select(select), Some(order)) = (query.body.as_mut(), &mut query.order_by) {
            sorted(select, order);
        }
        ControlFlow::Continue(())
    }
}

impl Name {
    fn select(&mut self, select: &mut Select) -> SqlResult<()> {
        if !merges(select) {
            return Ok(());
        }
        let count = factors(select).count();
        let known: Vec<_> = self.known.drain(..count.min(self.known.len())).collect();
        let sides = factors(select).zip(known);
        let sides: Option<VecDeque<Vec<Column>>> =
            sides.map(|(factor, names)| relation(factor, names?)).collect();
        let Some(mut sides) = sides else { return unnamed(select) };
        let mut all = Vec::new();
        for table in &mut select.from {
            match joined(table, &mut sides)? {
                Some(columns) => all.extend(columns),
                // A column that is not there: the planner says so.
                None => return Ok(()),
            }
        }
        let merged: Vec<Column> = all.iter().filter(|c| c.is_merged).cloned().collect();
        let mut projection = Vec::with_capacity(select.projection.len() + all.len());
        for item in select.projection.drain(..) {
            match item {
                SelectItem::Wildcard(_) => projection.extend(all.iter().map(output)),
                SelectItem::UnnamedExpr(Expr::Identifier(name)) => {
                    match find(&merged, &folded(&name)) {
                        Some(column) => projection.push(output(column)),
                        None => projection.push(SelectItem::UnnamedExpr(Expr::Identifier(name))),
                    }
                }
                mut other => {
                    replace(&mut other, &merged);
                    projection.push(other);
                }
            }
        }
        select.projection = projection;
        replace(&mut select.selection, &merged);
        replace(&mut select.group_by, &merged);
        replace(&mut select.having, &merged);
        Ok(())
    }
}

/// A select of which some relation has no name, or no columns that are known before.
fn unnamed(select: &Select) -> SqlResult<()> {
    let joins = select.from.iter().flat_map(|table| &table.joins);
    if joins.filter_map(Kind::of).all(|kind| kind.is_inner || !kind.merges()) {
        return Ok(());
    }
    Err(SqlError::unsupported("this outer join with USING or NATURAL is not supported")
        .with_hint("give each of its relations a name, or join them with ON"))
}

fn relation(factor: &TableFactor, names: Vec<String>) -> Option<Vec<Column>> {
    let table = match factor {
        TableFactor::Table { name, alias, .. } => match alias {
            Some(alias) => alias.name.clone(),
            None => name.0.last()?.as_ident().cloned()?,
        },
        TableFactor::Derived { alias, .. } => alias.as_ref()?.name.clone(),
        _ => return None,
    };
    let column = |name: String| {
        let parts = vec![table.clone(), Ident::with_quote('"', &name)];
        Column { name, value: Expr::CompoundIdentifier(parts), is_merged: false }
    };
    Some(names.into_iter().map(column).collect())
}

/// The columns of a table with its joins, whose constraints become conditions; none if a column is not there.
fn joined(
    table: &mut TableWithJoins,
    sides: &mut VecDeque<Vec<Column>>,
) -> SqlResult<Option<Vec<Column>>> {
    let mut left = sides.pop_front().unwrap_or_default();
    for join in &mut table.joins {
        let mut right = sides.pop_front().unwrap_or_default();
        let Some(kind) = Kind::of(join) else { continue };
        let value = kind.value;
        let names: Vec<String> = match kind.constraint {
            JoinConstraint::Using(names) => {
                let names = names.iter().filter_map(|name| name.0.last()?.as_ident());
                names.map(folded).collect()
            }
            JoinConstraint::Natural => {
                let both = left.iter().filter(|c| right.iter().any(|r| r.name == c.name));
                both.map(|column| column.name.clone()).collect()
            }
            _ => {
                if let Some(JoinConstraint::On(on)) = constraint_of(&mut join.join_operator) {
                    let merged: Vec<_> = left.iter().filter(|c| c.is_merged).cloned().collect();
                    replace(on, &merged);
                }
                left.append(&mut right);
                continue;
            }
        };
        let mut merged = Vec::with_capacity(names.len());
        let mut condition: Option<Expr> = None;
        for name in &names {
            let (Some(a), Some(b)) =
                (take(&mut left, name, "left")?, take(&mut right, name, "right")?)
            else {
                return Ok(None);
            };
            let equal = Expr::BinaryOp {
                left: Box::new(a.value.clone()),
                op: BinaryOperator::Eq,
                right: Box::new(b.value.clone()),
            };
            condition = Some(match condition {
                None => equal,
                Some(before) => Expr::BinaryOp {
                    left: Box::new(before),
                    op: BinaryOperator::And,
                    right: Box::new(equal),
                },
            });
            let value = match value {
                Value::Left => a.value,
                Value::Right => b.value,
                Value::Either => call("coalesce", [a.value, b.value]),
            };
            merged.push(Column { name: name.clone(), value, is_merged: true });
        }
        let yes = Expr::Value(ast::Value::Boolean(true).with_empty_span());
        if let Some(constraint) = constraint_of(&mut join.join_operator) {
            *constraint = JoinConstraint::On(condition.unwrap_or(yes));
        }
        merged.append(&mut left);
        merged.append(&mut right);
        left = merged;
    }
    Ok(Some(left))
}

fn constraint_of(join: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    use JoinOperator as J;
    match join {
        J::Join(on)
        | J::Inner(on)
        | J::CrossJoin(on)
        | J::Left(on)
        | J::LeftOuter(on)
        | J::Right(on)
        | J::RightOuter(on)
        | J::FullOuter(on) => Some(on),
        _ => None,
    }
}

/// Takes the column of a name out of a side; none if there is none.
fn take(side: &mut Vec<Column>, name: &str, which: &str) -> SqlResult<Option<Column>> {
    let mut places = side.iter().enumerate().filter(|(_, column)| column.name == name);
    let first = places.next().map(|(place, _)| place);
    if places.next().is_some() {
        let message =
            format!("common column name \"{name}\" appears more than once in {which} table");
        return Err(SqlError::new(sqlstate::AMBIGUOUS_COLUMN, message));
    }
    Ok(first.map(|place| side.remove(place)))
}

fn output(column: &Column) -> SelectItem {
    match &column.value {
        Expr::CompoundIdentifier(_) => SelectItem::UnnamedExpr(column.value.clone()),
        value => SelectItem::ExprWithAlias {
            expr: value.clone(),
            alias: Ident::with_quote('"', &column.name),
        },
    }
}

fn find<'a>(columns: &'a [Column], name: &str) -> Option<&'a Column> {
    columns.iter().find(|column| column.name == name)
}

/// Sort keys that are bare names of what the select gives under that name are given as it is.
fn sorted(select: &Select, order: &mut OrderBy) {
    let OrderByKind::Expressions(keys) = &mut order.kind else { return };
    for key in keys {
        let Expr::Identifier(name) = &key.expr else { continue };
        let name = folded(name);
        let mut given = select.projection.iter().filter_map(|item| match item {
            SelectItem::UnnamedExpr(expr @ Expr::CompoundIdentifier(parts))
                if parts.last().map(folded).as_ref() == Some(&name) =>
            {
                Some(expr)
            }
            _ => None,
        });
        if let (Some(expr), None) = (given.next(), given.next()) {
            key.expr = expr.clone();
        }
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
                && let Some(column) = find(self.columns, &folded(name))
            {
                *expr = column.value.clone();
            }
            ControlFlow::Continue(())
        }
    }
    if !columns.is_empty() {
        let _flow = node.visit(&mut Replace { columns, depth: 0 });
    }
}
