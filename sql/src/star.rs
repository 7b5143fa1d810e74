//! `*` gives the declared columns of a table, as in Postgres: `_offset` and its like, which tables have besides, are there
//! for who names them. A table is planned without them unless the select that reads it names one; in such a select `*`
//! leaves them out. Lists of names after a table, `FROM t AS x (a, b)`, may be shorter than its columns.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::common::TableReference;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{
    self, ExcludeSelectItem, Expr, Ident, JoinConstraint, JoinOperator, ObjectName, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableAlias, TableAliasColumnDef,
    TableFactor, WildcardAdditionalOptions,
};

use crate::append::SYSTEM;
use crate::error::{SqlError, SqlResult};
use crate::statement::{folded, output_names};

/// Begins the name by which a table is asked for with all of its columns.
pub(crate) const WHOLE: &str = "__otus_whole_";

/// Columns of the tables that a statement names, by their names as written.
type Tables = HashMap<Vec<String>, Vec<String>>;

/// Says in a statement which of its tables are to have all of their columns, and what `*` stands for there.
pub(crate) async fn resolved(
    state: &SessionState,
    statement: &mut ast::Statement,
) -> SqlResult<()> {
    if !asks(statement) {
        return Ok(());
    }
    let tables = columns_of(state, statement).await?;
    match ast::VisitMut::visit(statement, &mut Resolve { tables: &tables }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(e) => Err(e),
    }
}

/// Whether a statement names a column that `*` leaves out, or gives names to the columns of a table.
fn asks(statement: &ast::Statement) -> bool {
    struct Asks;
    impl ast::Visitor for Asks {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match system_column(expr) {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            }
        }
        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
            match joins_by_system_column(select) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            match factor {
                TableFactor::Table { alias: Some(alias), .. }
                | TableFactor::Derived { alias: Some(alias), .. }
                    if !alias.columns.is_empty() =>
                {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    ast::Visit::visit(statement, &mut Asks).is_break()
}

/// The qualifier, if there is one, of a column that `*` leaves out.
fn system_column(expr: &Expr) -> Option<Option<String>> {
    let is_system = |name: &Ident| SYSTEM.contains(&folded(name).as_str());
    match expr {
        Expr::Identifier(name) => is_system(name).then_some(None),
        Expr::CompoundIdentifier(parts) => {
            let (name, before) = parts.split_last()?;
            is_system(name).then(|| before.last().map(folded))
        }
        _ => None,
    }
}

/// Whether a column that `*` leaves out stands in USING.
fn joins_by_system_column(select: &Select) -> bool {
    let joins = select.from.iter().flat_map(|table| &table.joins);
    let is_system = |name: &ObjectName| {
        let name = name.0.last().and_then(|part| part.as_ident());
        name.is_some_and(|name| SYSTEM.contains(&folded(name).as_str()))
    };
    joins.filter_map(|join| constraint_of(&join.join_operator)).any(|constraint| match constraint {
        JoinConstraint::Using(names) => names.iter().any(is_system),
        _ => false,
    })
}

/// The columns of all tables that a statement names, those of its own common tables left out.
async fn columns_of(state: &SessionState, statement: &ast::Statement) -> SqlResult<Tables> {
    #[derive(Default)]
    struct Names {
        tables: HashSet<Vec<String>>,
        own: HashSet<Vec<String>>,
    }
    impl ast::Visitor for Names {
        type Break = ();
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let own = query.with.iter().flat_map(|with| &with.cte_tables);
            self.own.extend(own.map(|cte| vec![folded(&cte.alias.name)]));
            ControlFlow::Continue(())
        }
        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table { name, args: None, .. } = factor {
                self.tables.extend(parts_of(name));
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names::default();
    let _flow = ast::Visit::visit(statement, &mut names);
    let mut tables = Tables::new();
    for parts in names.tables.difference(&names.own) {
        let (reference, name) = match parts.as_slice() {
            [name] => (TableReference::bare(name.clone()), name),
            [schema, name] => (TableReference::partial(schema.clone(), name.clone()), name),
            [database, schema, name] => {
                (TableReference::full(database.clone(), schema.clone(), name.clone()), name)
            }
            _ => continue,
        };
        // What there is not is refused when it is planned.
        let Ok(schema) = state.schema_for_ref(reference) else { continue };
        let found = schema.table(&format!("{WHOLE}{name}")).await.map_err(SqlError::from)?;
        if let Some(table) = found {
            let schema = table.schema();
            let columns = schema.fields().iter().map(|field| field.name().clone());
            tables.insert(parts.clone(), columns.collect());
        }
    }
    Ok(tables)
}

fn parts_of(name: &ObjectName) -> Option<Vec<String>> {
    name.0.iter().map(|part| part.as_ident().map(folded)).collect()
}

struct Resolve<'a> {
    tables: &'a Tables,
}

impl ast::VisitorMut for Resolve<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        let mut named = Named::default();
        if let Some(order) = &query.order_by {
            let _flow = ast::Visit::visit(order, &mut named);
        }
        match self.body(&mut query.body, &named) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => ControlFlow::Break(e),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<SqlError> {
        if let TableFactor::Derived { subquery, alias: Some(alias), .. } = factor
            && let Some(names) = output_names(&subquery.body)
        {
            name_others(alias, &names);
        }
        ControlFlow::Continue(())
    }
}

/// Qualifiers of the named columns that `*` leaves out.
#[derive(Default, Clone)]
struct Named(HashSet<Option<String>>);

impl ast::Visitor for Named {
    type Break = ();
    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.0.extend(system_column(expr));
        ControlFlow::Continue(())
    }
}

/// A relation of a select: its name, and those of its columns that `*` leaves out.
struct Relation {
    name: Option<Ident>,
    hidden: Vec<String>,
}

impl Resolve<'_> {
    fn body(&self, body: &mut SetExpr, order: &Named) -> SqlResult<()> {
        match body {
            SetExpr::Select(select) => self.select(select, order.clone()),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left, order)?;
                self.body(right, order)
            }
            _ => Ok(()),
        }
    }

    fn select(&self, select: &mut Select, mut named: Named) -> SqlResult<()> {
        let _flow = ast::Visit::visit(&*select, &mut named);
        if joins_by_system_column(select) {
            named.0.insert(None);
        }
        let mut relations = Vec::new();
        let mut merges = false;
        for table in &mut select.from {
            relations.push(self.relation(&mut table.relation, &named));
            for join in &mut table.joins {
                merges |= merges_columns(&join.join_operator);
                relations.push(self.relation(&mut join.relation, &named));
            }
        }
        if relations.iter().all(|relation| relation.hidden.is_empty()) {
            return Ok(());
        }
        let mut projection = Vec::with_capacity(select.projection.len());
        for item in select.projection.drain(..) {
            match item {
                SelectItem::Wildcard(options) => {
                    projection.extend(all_of(&relations, merges, &options)?);
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    mut options,
                ) => {
                    let last = name.0.last().and_then(|part| part.as_ident()).map(folded);
                    let same = |r: &&Relation| r.name.as_ref().map(folded) == last;
                    if let Some(relation) = relations.iter().find(same) {
                        options.opt_exclude = without(&relation.hidden);
                    }
                    let kind = SelectItemQualifiedWildcardKind::ObjectName(name);
                    projection.push(SelectItem::QualifiedWildcard(kind, options));
                }
                other => projection.push(other),
            }
        }
        select.projection = projection;
        Ok(())
    }

    /// Asks for a table with all of its columns if any of the others may be named.
    fn relation(&self, factor: &mut TableFactor, named: &Named) -> Relation {
        let name = match &*factor {
            TableFactor::Derived { alias, .. } => alias.as_ref().map(|alias| alias.name.clone()),
            TableFactor::Table { name, alias, .. } => match alias {
                Some(alias) => Some(alias.name.clone()),
                None => name.0.last().and_then(|part| part.as_ident()).cloned(),
            },
            _ => None,
        };
        let none = Relation { name: name.clone(), hidden: Vec::new() };
        let TableFactor::Table { name: table, alias, args: None, .. } = factor else { return none };
        let columns = parts_of(table).and_then(|parts| self.tables.get(&parts));
        let (Some(columns), Some(name)) = (columns, name) else { return none };
        let mut hidden: Vec<String> = columns.clone();
        hidden.retain(|column| SYSTEM.contains(&column.as_str()));
        let declared = columns.len() - hidden.len();
        let qualifier = folded(&name);
        if !named.0.iter().any(|q| q.as_ref().is_none_or(|q| *q == qualifier)) {
            hidden.clear();
        }
        if let Some(alias) = alias {
            let shown = if hidden.is_empty() { declared } else { columns.len() };
            name_others(alias, columns.get(..shown).unwrap_or(columns));
        }
        if !hidden.is_empty()
            && let Some(last) = table.0.last_mut()
        {
            let whole = Ident::with_quote(
                '"',
                format!("{WHOLE}{}", last.as_ident().map_or_else(String::new, folded)),
            );
            *last = ast::ObjectNamePart::Identifier(whole);
            alias.get_or_insert_with(|| TableAlias {
                explicit: true,
                name: name.clone(),
                columns: Vec::new(),
                at: None,
            });
        }
        Relation { name: Some(name), hidden }
    }
}

/// Gives the columns that a list of names leaves out their own.
fn name_others(alias: &mut TableAlias, columns: &[String]) {
    if alias.columns.is_empty() {
        return;
    }
    let others = columns.iter().skip(alias.columns.len());
    let others: Vec<_> = others
        .map(|name| TableAliasColumnDef { name: Ident::with_quote('"', name), data_type: None })
        .collect();
    alias.columns.extend(others);
}

/// Whether a join gives columns of both sides as one.
fn merges_columns(join: &JoinOperator) -> bool {
    matches!(constraint_of(join), Some(JoinConstraint::Using(_) | JoinConstraint::Natural))
}

fn constraint_of(join: &JoinOperator) -> Option<&JoinConstraint> {
    use JoinOperator as J;
    match join {
        J::Join(on)
        | J::Inner(on)
        | J::Left(on)
        | J::LeftOuter(on)
        | J::Right(on)
        | J::RightOuter(on)
        | J::FullOuter(on)
        | J::CrossJoin(on) => Some(on),
        _ => None,
    }
}

/// `* EXCLUDE (…)`.
fn without(hidden: &[String]) -> Option<ExcludeSelectItem> {
    let name = |name: &String| ObjectName::from(vec![Ident::with_quote('"', name)]);
    (!hidden.is_empty()).then(|| ExcludeSelectItem::Multiple(hidden.iter().map(name).collect()))
}

/// What `*` stands for.
fn all_of(
    relations: &[Relation],
    merges: bool,
    options: &WildcardAdditionalOptions,
) -> SqlResult<Vec<SelectItem>> {
    let mut whole = relations.iter().filter(|relation| !relation.hidden.is_empty());
    let one = whole.next().filter(|_| whole.next().is_none());
    if let Some(one) = one.filter(|_| merges || relations.len() == 1) {
        let opt_exclude = without(&one.hidden);
        let options = WildcardAdditionalOptions { opt_exclude, ..options.clone() };
        return Ok(vec![SelectItem::Wildcard(options)]);
    }
    let apart = |relation: &Relation| {
        let name = ObjectName::from(vec![relation.name.clone()?]);
        let kind = SelectItemQualifiedWildcardKind::ObjectName(name);
        let opt_exclude = without(&relation.hidden);
        let options = WildcardAdditionalOptions { opt_exclude, ..options.clone() };
        Some(SelectItem::QualifiedWildcard(kind, options))
    };
    let each = if merges { None } else { relations.iter().map(apart).collect() };
    each.ok_or_else(|| {
        SqlError::unsupported("* beside columns such as _offset is not supported of this join")
            .with_hint("name the columns in place of *")
    })
}
