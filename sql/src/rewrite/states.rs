//! Expressions of a query where states are read: what the rollup's filter says is left out, and computed
//! dimensions stand for their expressions.

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, lit};

use super::branch::two_valued;
use super::calls::{Atom, Matched, Matcher, atom_name, column, unbuilt};
use super::facts::{Computed, RollupForms};
use super::fits::Values;
use super::implied::implies;
use super::needs::Needs;
use super::report::Refusal;
use super::total::is_total;

impl Matcher<'_> {
    /// Checks that the conditions of a query say what the rollup's filter says, and leaves out what it says.
    pub(super) fn conditions(&mut self, all: &[Expr], rest: &[Expr]) -> Matched<()> {
        let def = &self.rollup.def;
        let filter = def.filter.as_deref().unwrap_or_default();
        let Some(filtered) = &self.forms.conditions else {
            return Err(Refusal::new(format!(
                "the condition ({filter}) of rollup {} means something else in a query",
                def.name
            )));
        };
        for wanted in filtered {
            let said = all.iter().any(|condition| implies(condition, wanted));
            #[cfg(test)]
            let said = said || super::fault::has(super::fault::Fault::FilterIgnored);
            if !said {
                return Err(Refusal::far(format!(
                    "the query does not have the condition ({filter}) of rollup {}",
                    def.name
                )));
            }
            if !is_total(wanted, self.schema, &self.values()) {
                return Err(Refusal::new(format!(
                    "the condition ({filter}) of rollup {} may fail on some row, which states do not tell",
                    def.name
                )));
            }
        }
        let said = |condition: &&Expr| filtered.iter().any(|filter| implies(filter, condition));
        for condition in rest.iter().filter(|condition| !said(condition)) {
            let condition = self.examined(condition, false)?;
            self.rest.push(condition);
        }
        Ok(())
    }

    pub(super) fn values(&self) -> Values<'_> {
        Values { snapshot: self.snapshot, table: self.table }
    }

    /// An expression where states are read: computed dimensions stand for their expressions, and what the filter
    /// says is true; not so in a key, where it might be null by its type and no longer would.
    fn over_states(&self, expr: &Expr, is_key: bool) -> Matched<Expr> {
        let RollupForms { conditions, computed, .. } = self.forms;
        let filtered = conditions.as_deref().unwrap_or_default();
        if filtered.is_empty() && computed.is_empty() {
            return Ok(expr.clone());
        }
        let mut failing = None;
        let changed = expr.clone().transform_down(|e| {
            if !is_key && filtered.contains(&e) {
                return Ok(Transformed::new(lit(true), true, TreeNodeRecursion::Jump));
            }
            let stands = |known: &&Computed| known.form == e;
            #[cfg(test)]
            let stands = |known: &&Computed| {
                stands(known) || super::fault::takes_computed(&known.form, &e, self.schema)
            };
            let Some(found) = computed.iter().find(stands) else { return Ok(Transformed::no(e)) };
            if !is_total(&found.form, self.schema, &self.values()) {
                failing = Some(found.name.clone());
            }
            Ok(Transformed::new(found.column.clone(), true, TreeNodeRecursion::Jump))
        });
        if let Some(name) = failing {
            return Err(Refusal::new(format!(
                "dimension {name:?} of rollup {} may fail on some row, which states do not tell",
                self.rollup.def.name
            )));
        }
        changed.data().map_err(unbuilt)
    }

    /// An expression over states of which the rollup has all that it needs.
    fn examined(&mut self, expr: &Expr, is_key: bool) -> Matched<Expr> {
        let expr = self.over_states(expr, is_key)?;
        let mut needs = self.needs.clone();
        self.examiner.examine(&expr, &mut needs)?;
        self.needs = needs;
        Ok(expr)
    }

    /// Whether an expression can be had from states.
    pub(super) fn is_known(&self, expr: &Expr) -> bool {
        let mut trial = Needs::default();
        self.over_states(expr, false).is_ok_and(|e| self.examiner.examine(&e, &mut trial).is_ok())
    }

    /// The column that holds an expression over dimensions and buckets.
    pub(super) fn atom(&mut self, expr: &Expr) -> Matched<Expr> {
        let state = self.examined(expr, false)?;
        let raw = two_valued(expr);
        let place = self.atoms.iter().position(|known| known.raw == raw).unwrap_or_else(|| {
            self.atoms.push(Atom { raw, state: two_valued(&state) });
            self.atoms.len() - 1
        });
        Ok(column(atom_name(place)))
    }

    /// The column of a key: each has its own, even where two keys are equal.
    pub(super) fn key(&mut self, expr: &Expr) -> Matched<()> {
        let state = self.examined(expr, true)?;
        self.atoms.push(Atom { raw: two_valued(expr), state: two_valued(&state) });
        Ok(())
    }
}
