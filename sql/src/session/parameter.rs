//! Types of parameters, from the client's word or from where they stand: beside a column, under a cast, in
//! LIMIT, in `= ANY($1)`. Text where nothing tells, as in Postgres.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::{Placeholder, ScalarFunction};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

use crate::error::{SqlError, SqlResult, sqlstate};

/// Most parameters of a statement, as in Postgres.
const PARAMETERS_MAX: usize = 65_535;

/// One type per parameter, `$1` first.
pub(crate) fn infer(plan: &LogicalPlan, given: &[Option<DataType>]) -> SqlResult<Vec<DataType>> {
    let mut found: BTreeMap<usize, Option<DataType>> = BTreeMap::new();
    for (name, data_type) in plan.get_parameter_types().map_err(SqlError::from)? {
        found.insert(number(&name)?, data_type);
    }
    let visited = plan.apply_with_subqueries(|node| {
        let empty = DFSchema::empty();
        let inputs = node.inputs();
        let schema = inputs.first().map_or(&empty, |i| i.schema().as_ref());
        let whole = matches!(node, LogicalPlan::Limit(_));
        node.apply_expressions(|expr| {
            if whole && let Expr::Placeholder(p) = expr {
                note(&mut found, p, DataType::Int64);
            }
            expr.apply(|e| {
                look(&mut found, e, schema);
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.map_err(SqlError::from)?;
    for (i, data_type) in given.iter().enumerate() {
        if let Some(data_type) = data_type {
            found.insert(i, Some(data_type.clone()));
        }
    }
    let count = found.last_key_value().map_or(0, |(last, _)| last + 1);
    if count > PARAMETERS_MAX {
        return Err(SqlError::new(sqlstate::LIMIT_EXCEEDED, "too many parameters"));
    }
    Ok((0..count).map(|i| found.remove(&i).flatten().map_or(DataType::Utf8, plain)).collect())
}

/// Views are a matter of memory; clients are told of text.
fn plain(data_type: DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        other => other,
    }
}

fn number(name: &str) -> SqlResult<usize> {
    let parsed = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
    parsed.and_then(|n| n.checked_sub(1)).ok_or_else(|| {
        SqlError::new(sqlstate::UNDEFINED_PARAMETER, format!("there is no parameter {name}"))
    })
}

fn note(found: &mut BTreeMap<usize, Option<DataType>>, p: &Placeholder, data_type: DataType) {
    if let Ok(i) = number(&p.id) {
        let slot = found.entry(i).or_default();
        if slot.is_none() {
            *slot = Some(data_type);
        }
    }
}

fn look(found: &mut BTreeMap<usize, Option<DataType>>, expr: &Expr, schema: &DFSchema) {
    match expr {
        Expr::Cast(cast) => {
            if let Expr::Placeholder(p) = cast.expr.as_ref() {
                note(found, p, cast.field.data_type().clone());
            }
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "array_has" => {
            if let [Expr::Placeholder(p), item] = args.as_slice()
                && let Ok(item) = typed(item, schema)
            {
                note(found, p, DataType::List(Arc::new(Field::new("item", plain(item), true))));
            }
        }
        Expr::BinaryExpr(binary) => {
            for (p, other) in [(&binary.left, &binary.right), (&binary.right, &binary.left)] {
                if let (Expr::Placeholder(p), Ok(other)) = (p.as_ref(), typed(other, schema)) {
                    note(found, p, other);
                }
            }
        }
        _ => {}
    }
}

fn typed(expr: &Expr, schema: &DFSchema) -> DfResult<DataType> {
    expr.get_type(schema)
}
