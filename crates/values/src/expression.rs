//! Expressions that are kept and evaluated many times.

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;
use symbols::{DieId, Language, LinkAddress};

use crate::bind::Bound;
use crate::datum::Context;
use crate::error::Error;
use crate::parse::{Dialect, parse};

/// Places in the program for which it is kept what names mean.
const BOUND_MAX: usize = 4096;

/// An expression of C, C++ or Rust. Reading it and finding what its names mean is done once for
/// each place in the program, so evaluating it again is cheap.
#[derive(Debug)]
pub struct Expression {
    text: String,
    bound: Mutex<FxHashMap<Key, Arc<Bound>>>,
}

type Key = (usize, Option<DieId>, LinkAddress);

impl Expression {
    /// Reads an expression as far as that is possible without a program: what is wrong in any
    /// language is told at once.
    pub fn parse(text: &str) -> Result<Expression, Error> {
        let dialect = |language| Dialect { language, is_type: &|_| None };
        if let Err(error) = parse(text, &dialect(Language::Unknown)) {
            // Rust has types that C has not.
            parse(text, &dialect(Language::Rust)).map_err(|_| error)?;
        }
        Ok(Expression { text: text.to_owned(), bound: Mutex::default() })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The expression where a frame is.
    pub(crate) fn bound(&self, context: &Context<'_>) -> Result<Arc<Bound>, Error> {
        let module = context.own_module().map_or(0, |module| Arc::as_ptr(module) as usize);
        let standing = context.standing;
        let address = standing.map_or(LinkAddress(0), |standing| standing.address);
        let key = (module, standing.and_then(|standing| standing.instance), address);
        if let Some(bound) = self.lock().get(&key) {
            let module_lives =
                bound.module.as_ref().map(Arc::as_ptr) == context.own_module().map(Arc::as_ptr);
            if module_lives {
                return Ok(Arc::clone(bound));
            }
        }
        let bound = Arc::new(Bound::new(&self.text, context)?);
        let mut known = self.lock();
        if known.len() >= BOUND_MAX {
            known.clear();
        }
        known.insert(key, Arc::clone(&bound));
        Ok(bound)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, FxHashMap<Key, Arc<Bound>>> {
        // Nothing that can panic happens while it is locked.
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::str::FromStr for Expression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Expression, Error> {
        Expression::parse(text)
    }
}
