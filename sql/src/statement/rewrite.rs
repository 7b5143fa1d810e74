//! Names of output columns as Postgres gives them: `count`, `date_trunc`, `?column?`, repeated names
//! included. The planner wants every name of a projection to be different, so names that it would refuse
//! travel under a private alias and are put back on the answer. Besides, operators that the planner reads
//! otherwise than Postgres become functions.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, CastKind, Expr, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, Query, Select, SelectItem, SetExpr, TableFactor,
};

use datafusion::sql::sqlparser::tokenizer::Location;

use super::calls;
use super::sorting::{part_inner_sort_keys, part_sort_keys};
use crate::error::{SqlError, sqlstate};
use crate::function::{OR_EMPTY, TIMEZONE};

/// Prefix of private aliases.
const PRIVATE: &str = "__otus_";
/// Stands for `substring(x SIMILAR pattern ESCAPE e)` until outputs have names.
pub(super) const SIMILAR_PART: &str = "__otus_similar_part";
/// Begins the names of functions that stand for operators, which give no name to an output.
pub(super) const OPERATOR: &str = "__otus_op_";

/// The function that stands for an operator, as it is called until outputs have names.
pub(super) fn unnamed(function: &str) -> String {
    format!("{OPERATOR}{function}")
}

/// Names to put back: the number in a private alias is the index here.
#[derive(Debug, Clone, Default)]
pub(crate) struct OutputNames(Vec<String>);

impl OutputNames {
    /// The name to show for a planned column.
    pub(crate) fn shown<'a>(&'a self, planned: &'a str) -> &'a str {
        let Some(private) = planned.strip_prefix(PRIVATE) else { return planned };
        if let Some((name, _)) = private.strip_prefix('=').and_then(|inner| inner.rsplit_once('#'))
        {
            return name;
        }
        let place = private.parse::<usize>().ok();
        place.and_then(|i| self.0.get(i)).map_or(planned, String::as_str)
    }

    /// A private alias for an output of this name.
    pub(super) fn private(&mut self, shown: String) -> String {
        let alias = private_alias(&self.0.len().to_string());
        self.0.push(shown);
        alias
    }
}

pub(super) fn private_alias(name: &str) -> String {
    format!("{PRIVATE}{name}")
}

/// Gives every select of a query the names that Postgres would give.
pub(crate) fn name_outputs(query: &mut Query) -> OutputNames {
    let mut names = OutputNames::default();
    if let Some(select) = leftmost(&mut query.body) {
        name_select(select, Some(&mut names), false);
    }
    name_selects(query);
    part_sort_keys(query, &mut names);
    names
}

/// The same for a query that is to stand inside others.
pub(super) fn name_inner(query: &mut Query) {
    name_selects(query);
    part_inner_sort_keys(query);
}

fn name_selects(query: &mut Query) {
    struct Inner;
    impl ast::VisitorMut for Inner {
        type Break = ();
        fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
            name_select(select, None, false);
            ControlFlow::Continue(())
        }
        fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
            if let TableFactor::Derived { subquery, lateral, .. } = factor
                && let Some(select) = leftmost(&mut subquery.body)
            {
                name_select(select, None, true);
                if *lateral {
                    name_outer_columns(select);
                }
            }
            ControlFlow::Continue(())
        }
    }
    let _flow = ast::VisitMut::visit(query, &mut Inner);
}

/// Puts functions in the place of operators: `t AT TIME ZONE z` is `timezone(z, t)`, as in Postgres.
pub(crate) fn operators_as_functions(node: &mut impl ast::VisitMut) {
    struct Zones;
    impl ast::VisitorMut for Zones {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::AtTimeZone { timestamp, time_zone } = expr {
                let take = |part: &mut Box<Expr>| {
                    std::mem::replace(part.as_mut(), Expr::Identifier(Ident::new("")))
                };
                let args = [take(time_zone), take(timestamp)];
                *expr = call(TIMEZONE, args);
            }
            super::times::overlaps(expr);
            ControlFlow::Continue(())
        }
    }
    let _flow = node.visit(&mut Zones);
}

pub(crate) fn call(name: &str, args: impl IntoIterator<Item = Expr>) -> Expr {
    let arg = |e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e));
    let list = FunctionArgumentList {
        duplicate_treatment: None,
        args: args.into_iter().map(arg).collect(),
        clauses: Vec::new(),
    };
    Expr::Function(ast::Function {
        name: vec![Ident::new(name)].into(),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn leftmost(body: &mut SetExpr) -> Option<&mut Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => leftmost(&mut query.body),
        SetExpr::SetOperation { left, .. } => leftmost(left),
        _ => None,
    }
}

/// Names the columns of relations further out that a lateral query gives: the planner would call them something else.
fn name_outer_columns(select: &mut Select) {
    let own: HashSet<String> = factors(select).filter_map(relation_name).collect();
    for item in &mut select.projection {
        let name = match item {
            // It may be of either. Distinct rows are ordered by what is given, as it is written.
            SelectItem::UnnamedExpr(Expr::Identifier(name)) if select.distinct.is_none() => {
                folded(name)
            }
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => match parts.as_slice() {
                [.., relation, name] if !own.contains(&folded(relation)) => folded(name),
                _ => continue,
            },
            _ => continue,
        };
        alias(item, &name);
    }
}

/// The relations of a select.
pub(crate) fn factors(select: &Select) -> impl Iterator<Item = &TableFactor> {
    select.from.iter().flat_map(|table| {
        let joined = table.joins.iter().map(|join| &join.relation);
        std::iter::once(&table.relation).chain(joined)
    })
}

/// By what columns of a relation are qualified.
fn relation_name(factor: &TableFactor) -> Option<String> {
    let alias = match factor {
        TableFactor::Table { name, alias, .. } => match alias {
            Some(alias) => Some(&alias.name),
            None => name.0.last()?.as_ident(),
        },
        TableFactor::Derived { alias, .. }
        | TableFactor::Function { alias, .. }
        | TableFactor::UNNEST { alias, .. }
        | TableFactor::NestedJoin { alias, .. } => alias.as_ref().map(|alias| &alias.name),
        _ => None,
    };
    alias.map(folded)
}

/// Names the outputs of a select; those of one in FROM also where they have none, as `*` around it `shows_all`.
fn name_select(select: &mut Select, mut outer: Option<&mut OutputNames>, shows_all: bool) {
    let used = identifiers(select);
    let wildcard = select
        .projection
        .iter()
        .any(|i| matches!(i, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let repeated = repeated(select);
    let mut taken: HashSet<String> = HashSet::new();
    for (place, item) in select.projection.iter_mut().enumerate() {
        let (name, plain) = match &*item {
            SelectItem::ExprWithAlias { alias, .. } => (folded(alias), false),
            SelectItem::UnnamedExpr(expr) => {
                let plain = match expr {
                    Expr::Identifier(name) => !calls::is_value(name),
                    other => matches!(other, Expr::CompoundIdentifier(_)),
                };
                (figure(expr).map_or_else(|| "?column?".to_string(), |(name, _)| name), plain)
            }
            _ => continue,
        };
        if outer.is_none() && repeated.contains(&name) {
            // Neither can be named, but `*` above shows them.
            alias(item, &private_alias(&format!("={name}#{place}")));
            continue;
        }
        let first = name != "?column?" && taken.insert(name.clone());
        let aliased = matches!(item, SelectItem::ExprWithAlias { .. });
        let free = first && (aliased || plain || !used.contains(&name));
        if free && !(plain && wildcard) {
            if !plain && !aliased {
                alias(item, &name);
            }
        } else if let Some(names) = outer.as_deref_mut() {
            let private = names.private(name);
            alias(item, &private);
        } else if !first && !plain && !aliased && (name != "?column?" || shows_all) {
            // Nobody can name it, but `*` above shows it.
            alias(item, &private_alias(&format!("={name}#{place}")));
        }
    }
}

/// Names that several outputs of a select have.
fn repeated(select: &Select) -> HashSet<String> {
    let (mut once, mut repeated) = (HashSet::new(), HashSet::new());
    for item in &select.projection {
        let name = match item {
            SelectItem::ExprWithAlias { alias, .. } => folded(alias),
            SelectItem::UnnamedExpr(expr) => match figure(expr) {
                Some((name, _)) => name,
                None => continue,
            },
            _ => continue,
        };
        if !name.starts_with(PRIVATE) && !once.insert(name.clone()) {
            repeated.insert(name);
        }
    }
    repeated
}

/// Whether a planned column is one of several outputs of this name.
pub(crate) fn is_repeated(planned: &str, name: &str) -> bool {
    let inner = planned.strip_prefix(PRIVATE).and_then(|inner| inner.strip_prefix('='));
    inner.and_then(|inner| inner.rsplit_once('#')).is_some_and(|(shown, _)| shown == name)
}

fn alias(item: &mut SelectItem, name: &str) {
    let placeholder = SelectItem::UnnamedExpr(Expr::Identifier(Ident::new("")));
    let expr = match std::mem::replace(item, placeholder) {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => expr,
        other => {
            *item = other;
            return;
        }
    };
    *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) };
}

/// Where a column of this name is first named in a query.
pub(crate) fn place_of(query: &Query, name: &str) -> Option<Location> {
    let mut place = None;
    let _flow = ast::visit_expressions(query, |expr| {
        let named = match expr {
            Expr::Identifier(ident) => Some(ident),
            Expr::CompoundIdentifier(parts) => parts.last(),
            _ => None,
        };
        match named.filter(|ident| folded(ident) == name && ident.span.start.line > 0) {
            Some(ident) => {
                place = Some(ident.span.start);
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        }
    });
    place
}

/// Says of the first name of several parts that it names no column of a relation.
pub(crate) fn unknown_relation(query: &Query) -> SqlError {
    let mut found = None;
    let _flow = ast::visit_expressions(query, |expr| match expr {
        Expr::CompoundIdentifier(parts) => {
            let longest = found.as_ref().is_none_or(|f: &Vec<Ident>| f.len() < parts.len());
            if longest {
                found = Some(parts.clone());
            }
            ControlFlow::<()>::Continue(())
        }
        _ => ControlFlow::Continue(()),
    });
    let parts = found.unwrap_or_default();
    let names: Vec<String> = parts.iter().map(folded).collect();
    if parts.len() > 3 {
        let name = names.join(".");
        let message = format!("cross-database references are not implemented: {name}");
        return SqlError::unsupported(message);
    }
    let relation = parts.len().checked_sub(2).and_then(|at| names.get(at));
    let relation = relation.map_or("", String::as_str);
    let message = format!("missing FROM-clause entry for table \"{relation}\"");
    SqlError::new(sqlstate::UNDEFINED_TABLE, message)
}

/// Names of all bare identifiers in a select: an alias of such a name could capture them.
fn identifiers(select: &Select) -> HashSet<String> {
    let mut names = HashSet::new();
    let _flow = ast::visit_expressions(select, |expr| {
        match expr {
            Expr::Identifier(ident) => {
                names.insert(folded(ident));
            }
            Expr::CompoundIdentifier(parts) => {
                names.extend(parts.last().map(folded));
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    names
}

pub(crate) fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// The name that an output has by what it is.
pub(super) fn named(expr: &Expr) -> Option<String> {
    figure(expr).map(|(name, _)| name)
}

/// The name of an expression, and whether it is strong enough to pass through a cast.
fn figure(expr: &Expr) -> Option<(String, bool)> {
    let strong = |name: &str| Some((name.to_string(), true));
    let weak = |name: &str| Some((name.to_string(), false));
    match expr {
        Expr::Identifier(ident) => Some((folded(ident), true)),
        Expr::CompoundIdentifier(parts) => parts.last().map(|p| (folded(p), true)),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                AccessExpr::Dot(Expr::Identifier(name)) => Some(folded(name)),
                _ => None,
            });
            field.map(|name| (name, true)).or_else(|| figure(root))
        }
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => figure(inner),
        Expr::Function(function) => {
            let last = function.name.0.last().and_then(|p| p.as_ident())?;
            match folded(last) {
                of_subquery if of_subquery == OR_EMPTY => strong("array"),
                similar if similar == SIMILAR_PART => strong("substring"),
                operator if operator.starts_with(OPERATOR) => None,
                name => Some((name, true)),
            }
        }
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, .. } => {
            figure(expr).filter(|(_, strong)| *strong).or_else(|| weak(&type_name(data_type)))
        }
        Expr::TypedString(typed) => weak(&type_name(&typed.data_type)),
        Expr::Interval(_) => weak("interval"),
        Expr::Case { else_result, .. } => else_result
            .as_deref()
            .and_then(figure)
            .filter(|(_, strong)| *strong)
            .or_else(|| weak("case")),
        Expr::Array(array) if array.named => strong("array"),
        Expr::Exists { .. } => strong("exists"),
        Expr::Extract { .. } => strong("extract"),
        Expr::Ceil { .. } => strong("ceil"),
        Expr::Floor { .. } => strong("floor"),
        Expr::Position { .. } => strong("position"),
        Expr::Substring { shorthand: true, .. } => strong("substr"),
        Expr::Substring { .. } => strong("substring"),
        Expr::Overlay { .. } => strong("overlay"),
        Expr::AtTimeZone { .. } => strong("timezone"),
        Expr::Trim { trim_where, .. } => strong(match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim",
            Some(ast::TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        Expr::Subquery(query) => match leftmost_ref(&query.body)?.projection.first()? {
            SelectItem::ExprWithAlias { alias, .. } => Some((folded(alias), true)),
            SelectItem::UnnamedExpr(expr) => figure(expr),
            _ => None,
        },
        _ => None,
    }
}

/// The names of what a query gives, if they can be told without its tables.
pub(crate) fn output_names(body: &SetExpr) -> Option<Vec<String>> {
    let name = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        SelectItem::UnnamedExpr(expr) => {
            Some(figure(expr).map_or_else(|| "?column?".to_string(), |(name, _)| name))
        }
        _ => None,
    };
    match body {
        SetExpr::Values(values) => {
            let width = values.rows.first()?.content.len();
            Some((1..=width).map(|at| format!("column{at}")).collect())
        }
        other => leftmost_ref(other)?.projection.iter().map(name).collect(),
    }
}

fn leftmost_ref(body: &SetExpr) -> Option<&Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => leftmost_ref(&query.body),
        SetExpr::SetOperation { left, .. } => leftmost_ref(left),
        _ => None,
    }
}

/// Postgres' own name of a type.
fn type_name(data_type: &ast::DataType) -> String {
    let text = data_type.to_string().to_lowercase();
    let base = text.split('(').next().unwrap_or(&text).trim().trim_end_matches("[]");
    match base {
        "int" | "integer" | "int4" => "int4",
        "bigint" | "int8" => "int8",
        "smallint" | "int2" => "int2",
        "double" | "double precision" | "float" | "float8" => "float8",
        "real" | "float4" => "float4",
        "boolean" | "bool" => "bool",
        "decimal" | "numeric" => "numeric",
        "character varying" | "varchar" => "varchar",
        "char" | "character" => "bpchar",
        "timestamp with time zone" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        other => {
            let last = other.rsplit('.').next().unwrap_or(other);
            return last.trim_matches('"').to_string();
        }
    }
    .to_string()
}
