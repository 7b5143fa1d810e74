//! A relation that is named in place of a value, `row_to_json(t)`, `count(t)`, `t IS NOT NULL`, is the record of its columns,
//! unless there is a column of that name.

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;

use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, GroupByExpr, Ident, JoinOperator, ObjectName, Select, SelectItem,
    SelectItemQualifiedWildcardKind, TableFactor, Value,
};

use crate::function::RECORD;
use crate::merged::columns_of_relations;
use crate::statement::{factors, folded, output_names, record};

/// Puts records in the place of relations, everywhere in a statement.
pub(crate) async fn rows(state: &SessionState, statement: &mut ast::Statement) {
    let known = columns_of_relations(state, statement, names_relation).await;
    if !known.is_empty() {
        let _flow = ast::VisitMut::visit(statement, &mut Whole { known, scopes: Vec::new() });
    }
}

/// Whether anything in a select may name one of its relations in place of a value.
fn names_relation(select: &Select) -> bool {
    let names: HashSet<String> =
        factors(select).filter_map(name_of).map(|name| folded(&name)).collect();
    let is_one = |name: &Ident| names.contains(&folded(name));
    if names.is_empty() {
        return false;
    }
    if ast::Visit::visit(select, &mut AllOfOuter { names: &names }).is_break() {
        return true;
    }
    let found = ast::visit_expressions(select, |expr| {
        let names = match expr {
            Expr::Identifier(name) => is_one(name),
            Expr::Function(call) => arguments(call).any(|arg| {
                matches!(arg,
                FunctionArgExpr::QualifiedWildcard(name) if last(name).is_some_and(is_one))
            }),
            _ => false,
        };
        if names { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found.is_break()
}

/// Looks for `a.*` in queries further in than that with the relation of this name.
struct AllOfOuter<'a> {
    names: &'a HashSet<String>,
}

impl ast::Visitor for AllOfOuter<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let own: Vec<String> = factors(select).filter_map(name_of).map(|n| folded(&n)).collect();
        let is_outer = |name: &String| self.names.contains(name) && !own.contains(name);
        match select.projection.iter().filter_map(all_of).any(|name| is_outer(&folded(name))) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// The relation of `a.*`.
fn all_of(item: &SelectItem) -> Option<&Ident> {
    match item {
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
            last(name).filter(|_| name.0.len() == 1)
        }
        _ => None,
    }
}

fn arguments(call: &Function) -> impl Iterator<Item = &FunctionArgExpr> {
    let list = match &call.args {
        FunctionArguments::List(list) => list.args.as_slice(),
        _ => &[],
    };
    list.iter().filter_map(|arg| match arg {
        FunctionArg::Unnamed(arg) => Some(arg),
        _ => None,
    })
}

fn last(name: &ObjectName) -> Option<&Ident> {
    name.0.last()?.as_ident()
}

fn is_named(call: &Function, function: &str) -> bool {
    call.name.0.len() == 1 && last(&call.name).is_some_and(|name| folded(name) == function)
}

/// The members of a row that is written out.
fn members(expr: &Expr) -> Option<Vec<Expr>> {
    match expr {
        Expr::Tuple(members) => Some(members.clone()),
        Expr::Nested(inner) => members(inner),
        Expr::Function(call) if last(&call.name).is_some_and(|name| name.value == RECORD) => {
            let member = |arg: &FunctionArgExpr| match arg {
                FunctionArgExpr::Expr(expr) => Some(expr.clone()),
                _ => None,
            };
            arguments(call).skip(1).step_by(2).map(member).collect()
        }
        _ => None,
    }
}

fn and(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) }
}

/// By what a relation is named.
fn name_of(factor: &TableFactor) -> Option<Ident> {
    match factor {
        TableFactor::Table { name, alias, .. } => match alias {
            Some(alias) => Some(alias.name.clone()),
            None => last(name).cloned(),
        },
        TableFactor::Derived { alias, .. } | TableFactor::UNNEST { alias, .. } => {
            alias.as_ref().map(|alias| alias.name.clone())
        }
        _ => None,
    }
}

/// A relation as an expression may name it.
struct Relation {
    name: Ident,
    /// None = they are not known.
    columns: Option<Vec<String>>,
    /// Whether it may lack a row, as the other side of an outer join.
    optional: bool,
}

struct Scope {
    relations: Vec<Relation>,
    /// Keys that name what the select gives, put aside.
    keys: Option<GroupByExpr>,
}

struct Whole {
    /// By relation of the selects that [`names_relation`] is true of, in the order of their visit.
    known: VecDeque<Option<Vec<String>>>,
    scopes: Vec<Scope>,
}

impl Whole {
    fn scope(&mut self, select: &Select) -> Scope {
        let asked = names_relation(select);
        let mut relations = Vec::new();
        for table in &select.from {
            relations.extend(self.relation(&table.relation, asked));
            for join in &table.joins {
                let right = self.relation(&join.relation, asked);
                use JoinOperator as J;
                let (of_left, of_right) = match &join.join_operator {
                    J::Left(_) | J::LeftOuter(_) => (false, true),
                    J::Right(_) | J::RightOuter(_) => (true, false),
                    J::FullOuter(_) => (true, true),
                    _ => (false, false),
                };
                relations.iter_mut().for_each(|relation| relation.optional |= of_left);
                relations.extend(right.map(|right| Relation { optional: of_right, ..right }));
            }
        }
        Scope { relations, keys: None }
    }

    fn relation(&mut self, factor: &TableFactor, asked: bool) -> Option<Relation> {
        let planned = if asked { self.known.pop_front().flatten() } else { None };
        let written = || match factor {
            TableFactor::Derived { subquery, alias: Some(alias), .. } => {
                let mut names = output_names(&subquery.body)?;
                for (name, given) in names.iter_mut().zip(&alias.columns) {
                    *name = folded(&given.name);
                }
                Some(names)
            }
            _ => None,
        };
        let columns = planned.or_else(written);
        Some(Relation { name: name_of(factor)?, columns, optional: false })
    }

    /// The relation that a bare name stands for; none if it may be a column.
    fn find(&self, name: &Ident) -> Option<&Relation> {
        let name = folded(name);
        for scope in self.scopes.iter().rev() {
            let has = |r: &Relation| r.columns.as_ref().is_some_and(|c| c.contains(&name));
            if scope.relations.iter().any(has) {
                return None;
            }
            if let Some(found) = scope.relations.iter().find(|r| folded(&r.name) == name) {
                return found.columns.is_some().then_some(found);
            }
        }
        None
    }

    /// The relation of a query further out whose columns `a.*` gives.
    fn outer(&self, item: &SelectItem) -> Option<&Relation> {
        let name = folded(all_of(item)?);
        let is_named = |relation: &&Relation| folded(&relation.name) == name;
        let mut scopes = self.scopes.iter().rev();
        if scopes.next()?.relations.iter().any(|relation| is_named(&relation)) {
            return None;
        }
        let found = scopes.find_map(|scope| scope.relations.iter().find(is_named));
        found.filter(|relation| relation.columns.is_some())
    }

    /// `t = ROW(1, 2)`: nulls are equal here, as in all records.
    fn compared(&self, expr: &Expr) -> Option<Expr> {
        let Expr::BinaryOp { left, op, right } = expr else { return None };
        let negated = match op {
            BinaryOperator::Eq => false,
            BinaryOperator::NotEq => true,
            _ => return None,
        };
        let of = |expr: &Expr| match expr {
            Expr::Identifier(name) => {
                self.find(name).map(|relation| relation.values().map(|(_, value)| value).collect())
            }
            _ => None,
        };
        let (left, right) = match (of(left), of(right)) {
            (Some(left), None) => (left, members(right)?),
            (None, Some(right)) => (members(left)?, right),
            _ => return None,
        };
        if left.len() != right.len() {
            return None;
        }
        let same = left.into_iter().zip::<Vec<Expr>>(right);
        let same = same.map(|(l, r)| Expr::IsNotDistinctFrom(Box::new(l), Box::new(r)));
        let same = Expr::Nested(Box::new(same.reduce(and)?));
        Some(match negated {
            true => Expr::UnaryOp { op: ast::UnaryOperator::Not, expr: Box::new(same) },
            false => same,
        })
    }

    /// `(t).column`, which is a call of `get_field` by now.
    fn field(&self, call: &Function) -> Option<Expr> {
        let mut arguments = arguments(call);
        let (
            Some(FunctionArgExpr::Expr(Expr::Identifier(name))),
            Some(FunctionArgExpr::Expr(field)),
        ) = (arguments.next(), arguments.next())
        else {
            return None;
        };
        let Expr::Value(field) = field else { return None };
        let Value::SingleQuotedString(field) = &field.value else { return None };
        let relation = self.find(name)?;
        let parts = vec![relation.name.clone(), Ident::with_quote('"', field)];
        Some(Expr::CompoundIdentifier(parts))
    }

    /// The members of `ROW(a.*, 1)`.
    fn expanded(&self, row: &Function) -> Option<Vec<Expr>> {
        let mut values = Vec::new();
        for arg in arguments(row) {
            match arg {
                FunctionArgExpr::Expr(value) => values.push(value.clone()),
                FunctionArgExpr::QualifiedWildcard(name) if name.0.len() == 1 => {
                    values.extend(self.find(last(name)?)?.values().map(|(_, value)| value));
                }
                _ => return None,
            }
        }
        Some(values)
    }

    fn change(&self, expr: &mut Expr) {
        if let Some(compared) = self.compared(expr) {
            *expr = compared;
            return;
        }
        match expr {
            Expr::IsNull(of) | Expr::IsNotNull(of) => {
                let Expr::Identifier(name) = of.as_ref() else { return };
                let Some(relation) = self.find(name) else { return };
                let is_null = matches!(expr, Expr::IsNull(_));
                *expr = relation.nulls(is_null);
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                if let Expr::Nested(of) = root.as_ref() {
                    let Expr::Identifier(name) = of.as_ref() else { return };
                    let [AccessExpr::Dot(Expr::Identifier(column))] = access_chain.as_slice()
                    else {
                        return;
                    };
                    if let Some(relation) = self.find(name) {
                        let parts = vec![relation.name.clone(), column.clone()];
                        *expr = Expr::CompoundIdentifier(parts);
                    }
                } else if let Expr::Identifier(name) = root.as_ref() {
                    // `t.list[1]`: what is named is the column.
                    let mut parts = vec![name.clone()];
                    let more = access_chain.iter().map_while(|access| match access {
                        AccessExpr::Dot(Expr::Identifier(part)) => Some(part.clone()),
                        _ => None,
                    });
                    parts.extend(more);
                    if parts.len() > 1 {
                        access_chain.drain(..parts.len() - 1);
                        **root = Expr::CompoundIdentifier(parts);
                    }
                }
            }
            Expr::Function(call) if is_named(call, "get_field") => {
                if let Some(column) = self.field(call) {
                    *expr = column;
                }
            }
            Expr::Function(call) if is_named(call, "row") => {
                if let Some(values) = self.expanded(call) {
                    let names = (1..=values.len()).map(|at| format!("f{at}"));
                    *expr = record(names.zip(values));
                }
            }
            Expr::Function(Function { args: FunctionArguments::List(list), .. }) => {
                for arg in &mut list.args {
                    if let FunctionArg::Unnamed(arg) = arg
                        && let FunctionArgExpr::QualifiedWildcard(name) = &*arg
                        && let [_] = name.0.as_slice()
                        && let Some(name) = last(name).filter(|name| self.find(name).is_some())
                    {
                        *arg = FunctionArgExpr::Expr(Expr::Identifier(name.clone()));
                    }
                }
            }
            _ => {}
        }
    }
}

impl Relation {
    /// The columns that whoever asks can see: others are not there.
    fn values(&self) -> impl Iterator<Item = (String, Expr)> {
        let columns = self.columns.iter().flatten();
        columns.map(|column| {
            let parts = vec![self.name.clone(), Ident::with_quote('"', column)];
            (column.clone(), Expr::CompoundIdentifier(parts))
        })
    }

    /// Whether all columns are null, or none is.
    fn nulls(&self, are_null: bool) -> Expr {
        let tests = self.values().map(|(_, value)| match are_null {
            true => Expr::IsNull(Box::new(value)),
            false => Expr::IsNotNull(Box::new(value)),
        });
        let all = tests.reduce(and);
        let yes = || Expr::Value(Value::Boolean(true).into());
        Expr::Nested(Box::new(all.unwrap_or_else(yes)))
    }

    /// The record; null where an outer join has no row.
    fn record(&self) -> Expr {
        let whole = record(self.values());
        if !self.optional {
            return whole;
        }
        let is_there =
            Expr::UnaryOp { op: ast::UnaryOperator::Not, expr: Box::new(self.nulls(true)) };
        let when = ast::CaseWhen { condition: is_there, result: whole };
        let (case_token, end_token) = (
            ast::helpers::attached_token::AttachedToken::empty(),
            ast::helpers::attached_token::AttachedToken::empty(),
        );
        Expr::Case {
            case_token,
            end_token,
            operand: None,
            conditions: vec![when],
            else_result: None,
        }
    }
}

impl ast::VisitorMut for Whole {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let mut scope = self.scope(select);
        let mut outputs = HashSet::new();
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                outputs.insert(folded(alias));
            }
        }
        let is_output =
            |key: &Expr| matches!(key, Expr::Identifier(name) if outputs.contains(&folded(name)));
        if let GroupByExpr::Expressions(keys, _) = &select.group_by
            && keys.iter().any(is_output)
        {
            let none = GroupByExpr::Expressions(Vec::new(), Vec::new());
            scope.keys = Some(std::mem::replace(&mut select.group_by, none));
        }
        self.scopes.push(scope);
        let items = std::mem::take(&mut select.projection);
        for item in items {
            match self.outer(&item) {
                Some(relation) => {
                    select.projection.extend(relation.values().map(|(column, expr)| {
                        let alias = Ident::with_quote('"', column);
                        SelectItem::ExprWithAlias { expr, alias }
                    }));
                }
                None => select.projection.push(item),
            }
        }
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && let Expr::Identifier(name) = &*expr
                && self.find(name).is_some()
            {
                let alias = Ident::with_quote('"', folded(name));
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if let Some(keys) = self.scopes.pop().and_then(|scope| scope.keys) {
            select.group_by = keys;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.change(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(name) = &*expr
            && let Some(relation) = self.find(name)
        {
            *expr = relation.record();
        }
        ControlFlow::Continue(())
    }
}
