//! What a statement takes and gives, for the extended protocol: types of parameters from where they
//! stand, columns from a plan in which every parameter is a null of its type.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::scalar::ScalarValue;

use super::parameter;
use super::run::shown_schema;
use super::show;
use super::{Frame, Session};
use crate::error::{SqlError, SqlResult};
use crate::named::{self, NamedQueries, NamedQuery, NamedQueryInfo};
use crate::outcome::{Description, Parameter};
use crate::plan;
use crate::statement::{Action, Plannable, Statement};

impl Session {
    /// Says what a statement takes and gives. `param_types` are the types the client has named itself, with the
    /// Postgres name in the metadata where Arrow's type does not tell it.
    pub async fn describe(
        &self,
        stmt: &Statement,
        param_types: &[Option<FieldRef>],
    ) -> SqlResult<Description> {
        let none = |schema| Ok(Description { params: Vec::new(), schema });
        match stmt.action() {
            Action::Query(query) => self.describe_query(query, param_types).await,
            Action::CopyOut { query, .. } | Action::Declare { query, .. } => {
                let described = self.describe_query(query, param_types).await?;
                Ok(Description { schema: None, ..described })
            }
            Action::Explain { query, .. } => {
                let described = self.describe_query(query, param_types).await?;
                let schema = Schema::new(vec![Field::new("QUERY PLAN", DataType::Utf8, false)]);
                Ok(Description { schema: Some(Arc::new(schema)), ..described })
            }
            Action::Insert(insert) => self.describe_insert(insert, param_types).await,
            Action::Show(name) => none(Some(show::schema(name))),
            Action::Fetch { name, .. } => none(Some(self.cursor_schema(name)?)),
            Action::Execute { name, .. } => {
                let prepared = self.prepared(name)?;
                let inner = Box::pin(self.describe(&prepared.statement, &prepared.types)).await?;
                none(inner.schema)
            }
            _ => none(None),
        }
    }

    /// The named queries whose tables the session sees, with the columns that they give over the tables there are.
    pub async fn named_queries(&self) -> Vec<NamedQueryInfo> {
        let mut list = Vec::new();
        for query in self.named().iter() {
            let columns = self.named_columns(query).await;
            let columns = columns.map(|c| c.fields().iter().map(|f| f.as_ref().clone()).collect());
            list.push(NamedQueryInfo { def: query.def.clone(), columns });
        }
        list
    }

    /// The named queries whose tables the session sees.
    pub(crate) fn named(&self) -> Arc<NamedQueries> {
        let all = self.engine.named();
        match &self.identity {
            Some(identity) if !identity.is_admin() => {
                let snapshot = self.engine.dataset().snapshot();
                Arc::new(all.seen_by(&self.engine.seen_by(snapshot, Some(identity))))
            }
            _ => Arc::clone(all),
        }
    }

    /// The columns of a named query.
    pub(crate) async fn named_columns(&self, query: &Arc<NamedQuery>) -> SqlResult<SchemaRef> {
        let frame = self.frame()?;
        let (inner, query) = (frame.detached(), Arc::clone(query));
        let work = async move {
            let types = query.def.parameters.iter().map(|p| p.column_type.arrow());
            let nulls = types.map(|t| ScalarValue::try_from(&t)).collect::<Result<Vec<_>, _>>()?;
            let plan = named::plan(&inner.state, &query, nulls).await?;
            plan::verify(&plan)?;
            let options = inner.state.config_options();
            let analyzed = inner.state.analyzer().execute_and_check(plan, options, |_, _| {})?;
            plan::promised(&analyzed)
        };
        frame.on_threads(work).await
    }

    async fn describe_query(
        &self,
        query: &Plannable,
        given: &[Option<FieldRef>],
    ) -> SqlResult<Description> {
        let frame = self.frame()?;
        let (query, given) = (query.clone(), given.to_vec());
        let inner: Frame = frame.detached();
        frame.on_threads(async move { inner.describe(&query, &given).await }).await
    }
}

impl Frame {
    pub(super) async fn describe(
        &self,
        query: &Plannable,
        given: &[Option<FieldRef>],
    ) -> SqlResult<Description> {
        let types: Vec<_> =
            given.iter().map(|f| f.as_ref().map(|f| f.data_type().clone())).collect();
        let logical = plan::logical(&self.state, query, &types).await?;
        let params = parameter::infer(&logical, given, &query.casts)?;
        let bound = plan::with_params(logical, nulls(&params)?)?;
        let bound = plan::nested(&self.state, query, bound)?;
        plan::verify(&bound)?;
        let options = self.state.config_options();
        let analyzed = self
            .state
            .analyzer()
            .execute_and_check(bound, options, |_, _| {})
            .map_err(SqlError::from)?;
        let schema = shown_schema(plan::promised(&analyzed)?.as_ref(), &query.names);
        Ok(Description { params, schema: Some(schema) })
    }
}

/// A null of each type.
fn nulls(types: &[FieldRef]) -> SqlResult<Vec<Parameter>> {
    let null = |field: &FieldRef| {
        let value = ScalarValue::try_from(field.data_type()).map_err(SqlError::from)?;
        Ok(Parameter::of(value, field))
    };
    types.iter().map(null).collect()
}
