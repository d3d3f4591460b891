//! Types that an expression names.

use std::sync::{Arc, OnceLock};

use super::{Evaluator, template_argument};
use crate::error::Error;
use crate::syntax::TypeBase;
use crate::types::{Kind, Link, Ty, array_of, base_named, pointer_to};

impl Evaluator<'_> {
    /// A type by its name.
    pub(super) fn type_named(&self, name: &crate::syntax::TypeName) -> Result<Arc<Ty>, Error> {
        let column = name.column;
        let mut ty = match &name.base {
            TypeBase::Named(text) => self.find_type(column, text)?,
            TypeBase::Of(node) => self.datum(node)?.ty,
            TypeBase::Argument { number, of } => {
                let of = match (of, self.own) {
                    (Some(node), _) => self.context.through_reference(&self.datum(node)?),
                    (None, Some(own)) => own.clone(),
                    (None, None) => {
                        let what = "`$0` is a template argument, in printers only".to_owned();
                        return Err(Error::Types { column, what });
                    }
                };
                let found = template_argument(&self.context, &of.ty, *number);
                let what = format!("{} has no type as argument {number}", of.ty.name);
                found.ok_or(Error::Types { column, what })?
            }
        };
        for around in &name.around {
            ty = match around {
                crate::syntax::Around::Pointer => pointer_to(&ty),
                crate::syntax::Around::Array(length) => array_of(&ty, *length),
                crate::syntax::Around::Reference => Arc::new(Ty {
                    module: ty.module.clone(),
                    name: format!("{} &", ty.name),
                    true_name: format!("{} &", ty.name),
                    size: Some(8),
                    language: ty.language,
                    kind: Kind::Reference(Link::Made(ty)),
                    printer: OnceLock::new(),
                }),
            };
        }
        Ok(ty)
    }

    /// `$0` in the arguments of a type's name are those of the value that is printed.
    fn with_arguments(&self, name: &str) -> String {
        let (Some(own), true) = (self.own, name.contains('$')) else { return name.to_owned() };
        let mut text = name.to_owned();
        for number in 0..10 {
            let sign = format!("${number}");
            if text.contains(&sign)
                && let Some(ty) = template_argument(&self.context, &own.ty, number)
            {
                text = text.replace(&sign, &ty.name);
            }
        }
        text
    }

    fn find_type(&self, column: usize, name: &str) -> Result<Arc<Ty>, Error> {
        let name = &self.with_arguments(name);
        let in_program = || crate::bind::type_named(&self.context, name);
        // Numbers look the same everywhere; what a program calls `word` is its own.
        if let Some(ty) = base_named(name, self.language()).or_else(in_program) {
            return Ok(ty);
        }
        let mut near = Vec::new();
        if let Some(module) = self.context.own_module() {
            let base = symbols::Name::parse(name).base();
            let found = module.search(&base, 20).into_iter();
            let types = found.filter(|found| found.kind == symbols::NameKind::Type);
            let named = types.map(|f| (symbols::Name::parse(&f.name).base(), f.name));
            near = crate::bind::nearest(&base, named.collect());
        }
        let scope = "the types of the program".to_owned();
        Err(Error::Name { column, name: name.to_owned(), scope, near })
    }
}
