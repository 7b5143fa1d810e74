//! Reading the definition of a named query: one query, whose placeholders are its parameters.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, CastKind, Expr, Ident, ObjectNamePart, Query, SelectItem, SetExpr, TableFactor,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use otus_engine::types::ColumnType;

use super::{NamedQuery, NamedQueryDef, ParameterDef, QueryPlace, QueryProblem, placeholder};
use crate::catalog::PUBLIC_SCHEMA;
use crate::error::{SqlError, sqlstate};
use crate::statement::{self, folded};

/// Most parameters of a named query.
const PARAMETERS_MAX: usize = 100;

fn wrong(place: QueryPlace, message: String) -> QueryProblem {
    QueryProblem { place, error: Box::new(SqlError::new(sqlstate::INVALID_PARAMETER, message)) }
}

/// Reads a definition; nothing is planned.
pub(super) fn compile(def: &NamedQueryDef) -> Result<NamedQuery, QueryProblem> {
    parameters(def)?;
    let in_sql = |error| QueryProblem { place: QueryPlace::Sql, error: Box::new(error) };
    let mut query = statement::subquery(&def.sql).map_err(in_sql)?;
    named_outputs(&query).map_err(in_sql)?;
    bind(&mut query, def)?;
    qualify(&mut query);
    let words = statement::words(&query.to_string());
    let relations = relations(&query);
    Ok(NamedQuery { def: def.clone(), query: *query, relations, words })
}

/// The tables that a query names. They have their schema by now; what has none is part of the query.
fn relations(query: &Query) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    let flow = ast::visit_relations(query, |name| match name.0.as_slice() {
        [ObjectNamePart::Identifier(schema), ObjectNamePart::Identifier(table)] => {
            found.push((folded(schema), folded(table)));
            ControlFlow::Continue(())
        }
        [_] => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    });
    flow.is_continue().then_some(found)
}

fn parameters(def: &NamedQueryDef) -> Result<(), QueryProblem> {
    let mut seen = HashSet::new();
    for parameter in &def.parameters {
        let name = parameter.name.as_str();
        let wrong = |message| Err(wrong(QueryPlace::Parameter(name.to_string()), message));
        let first = name.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !first || !name.chars().all(plain) {
            return wrong(format!(
                "parameter name {name:?} is not made of lower-case letters, digits and underscores"
            ));
        }
        if !seen.insert(name) {
            return wrong(format!("parameter {name:?} is declared twice"));
        }
        if matches!(parameter.column_type, ColumnType::Array(_)) {
            return wrong(format!("a parameter cannot be of type {}", parameter.column_type));
        }
    }
    if def.parameters.len() > PARAMETERS_MAX {
        let message = format!("a query has at most {PARAMETERS_MAX} parameters");
        return Err(wrong(QueryPlace::Name, message));
    }
    Ok(())
}

/// Callers name the columns, so each must have a name of its own.
fn named_outputs(query: &Query) -> Result<(), SqlError> {
    let mut body = query.body.as_ref();
    let select = loop {
        match body {
            SetExpr::Select(select) => break select,
            SetExpr::Query(query) => body = query.body.as_ref(),
            SetExpr::SetOperation { left, .. } => body = left,
            _ => return Ok(()),
        }
    };
    for (place, item) in select.projection.iter().enumerate() {
        let plain = |expr: &Expr| matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        if let SelectItem::UnnamedExpr(expr) = item
            && !plain(expr)
        {
            let message = format!("output column {} has no name of its own", place + 1);
            return Err(SqlError::new(sqlstate::SYNTAX, message).with_hint("name it with AS"));
        }
    }
    Ok(())
}

/// Puts casts around the placeholders, and compares them with what is declared.
fn bind(query: &mut Query, def: &NamedQueryDef) -> Result<(), QueryProblem> {
    struct Bind<'a> {
        def: &'a NamedQueryDef,
        used: HashSet<String>,
    }
    impl ast::VisitorMut for Bind<'_> {
        type Break = QueryProblem;
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryProblem> {
            let Some(name) = placeholder(expr) else { return ControlFlow::Continue(()) };
            let Some(parameter) = self.def.parameters.iter().find(|p| p.name == name) else {
                return ControlFlow::Break(unknown(self.def, name));
            };
            self.used.insert(name.to_string());
            match typed(expr, parameter) {
                Ok(cast) => *expr = cast,
                Err(problem) => return ControlFlow::Break(problem),
            }
            ControlFlow::Continue(())
        }
    }
    let mut bind = Bind { def, used: HashSet::new() };
    if let ControlFlow::Break(problem) = ast::VisitMut::visit(query, &mut bind) {
        return Err(problem);
    }
    match def.parameters.iter().find(|p| !bind.used.contains(&p.name)) {
        Some(unused) => {
            let message =
                format!("parameter {0:?} is not used: the query has no ${0}", unused.name);
            Err(wrong(QueryPlace::Parameter(unused.name.clone()), message))
        }
        None => Ok(()),
    }
}

fn unknown(def: &NamedQueryDef, name: &str) -> QueryProblem {
    let names: Vec<_> = def.parameters.iter().map(|p| format!("${}", p.name)).collect();
    let mut problem = wrong(QueryPlace::Sql, format!("${name} is no declared parameter"));
    let hint = match names.as_slice() {
        [] => format!("declare it: parameters = {{ {name} = \"bigint\" }}"),
        names => format!("declared are {}", names.join(", ")),
    };
    problem.error = Box::new(problem.error.with_hint(hint));
    problem
}

fn typed(expr: &Expr, parameter: &ParameterDef) -> Result<Expr, QueryProblem> {
    let name = parameter.column_type.to_string();
    let dialect = PostgreSqlDialect {};
    let data_type =
        Parser::new(&dialect).try_with_sql(&name).and_then(|mut parser| parser.parse_data_type());
    let data_type = data_type.map_err(|e| {
        wrong(QueryPlace::Parameter(parameter.name.clone()), format!("type {name:?}: {e}"))
    })?;
    Ok(Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(expr.clone()),
        data_type,
        array: false,
        format: None,
    })
}

/// Gives unqualified tables their schema: what a query means does not hang on its caller's search path.
fn qualify(query: &mut Query) {
    struct Names(HashSet<String>);
    impl ast::Visitor for Names {
        type Break = ();
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let tables = query.with.iter().flat_map(|with| &with.cte_tables);
            self.0.extend(tables.map(|cte| folded(&cte.alias.name)));
            ControlFlow::Continue(())
        }
    }
    struct Qualify(HashSet<String>);
    impl ast::VisitorMut for Qualify {
        type Break = ();
        fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table { name, args: None, .. } = factor
                && let [ObjectNamePart::Identifier(table)] = name.0.as_slice()
                && !self.0.contains(&folded(table))
            {
                let schema = Ident::with_quote('"', PUBLIC_SCHEMA);
                name.0.insert(0, ObjectNamePart::Identifier(schema));
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(HashSet::new());
    let _flow = ast::Visit::visit(query, &mut names);
    let _flow = ast::VisitMut::visit(query, &mut Qualify(names.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, parameters: &[(&str, &str)], expected: Result<&str, &str>) {
        let parameter = |(name, t): &(&str, &str)| ParameterDef {
            name: (*name).into(),
            column_type: t.parse().unwrap(),
            default: None,
            description: None,
        };
        let parameters = parameters.iter().map(parameter).collect();
        let def =
            NamedQueryDef { name: "q".into(), sql: sql.into(), parameters, ..Default::default() };
        match (compile(&def), expected) {
            (Ok(named), Ok(expected)) => assert_eq!(named.query.to_string(), expected),
            (Err(problem), Err(expected)) => assert_eq!(problem.error.message, expected, "{sql}"),
            (got, _) => panic!("{sql}: {:?}", got.map(|q| q.query.to_string())),
        }
    }

    #[test]
    fn parameters_are_typed_and_tables_qualified() {
        check(
            "WITH t AS (SELECT * FROM edits) SELECT page FROM t WHERE n > $n LIMIT $n;",
            &[("n", "bigint")],
            Ok("WITH t AS (SELECT * FROM \"public\".edits) SELECT page FROM t WHERE n > \
                CAST($n AS BIGINT) LIMIT CAST($n AS BIGINT)"),
        );
        check("SELECT count(*) FROM a.b", &[], Ok("SELECT count(*) AS \"count\" FROM a.b"));
    }

    #[test]
    fn what_is_wrong_is_told() {
        check("SELECT $x AS x", &[], Err("$x is no declared parameter"));
        check("SELECT $1 AS x", &[("x", "text")], Err("$1 is no declared parameter"));
        check(
            "SELECT 1 AS x",
            &[("x", "text")],
            Err("parameter \"x\" is not used: the query has no $x"),
        );
        check("SELECT $x + 1", &[("x", "int")], Err("output column 1 has no name of its own"));
        check("SELECT $x AS x", &[("x", "int[]")], Err("a parameter cannot be of type integer[]"));
        check("SELECT 1 AS a; SELECT 2 AS b", &[], Err("one query is expected, not 2 statements"));
        check("SET a.b = 1", &[], Err("only a query can have a name"));
        check("", &[], Err("the query is empty"));
        check(
            "SELECT $X AS x",
            &[("X", "int")],
            Err("parameter name \"X\" is not made of lower-case letters, digits and underscores"),
        );
    }
}
