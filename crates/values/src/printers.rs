//! Printers: how values of library types are shown. They are data, see `docs/printers.md`; here
//! they are read, and found by the names of types.

mod definition;
mod pattern;
mod print;
mod walk;

use std::sync::Arc;

use crate::types::{Kind, Ty, normal};
use definition::Definition;
pub(crate) use definition::Printer;

/// All printers. What is added later goes before what was there.
#[derive(Debug)]
pub struct Printers {
    printers: Vec<Arc<Printer>>,
}

/// Why a file of printers is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrinterError {
    #[error("{file} is no file of printers: {what}")]
    Format { file: String, what: String },
    #[error("{file}, printer of `{type_}`: {what}")]
    Printer { file: String, type_: String, what: String },
}

const BUILT_IN: [(&str, &str); 2] = [
    ("libstdcxx.toml", include_str!("../printers/libstdcxx.toml")),
    ("rust.toml", include_str!("../printers/rust.toml")),
];

impl Default for Printers {
    /// Those for the standard libraries.
    fn default() -> Printers {
        let mut printers = Printers::none();
        for (name, text) in BUILT_IN {
            let added = printers.add(name, text);
            // A test reads them.
            debug_assert!(added.is_ok(), "{added:?}");
        }
        printers
    }
}

impl Printers {
    /// Not even those of the standard libraries.
    pub fn none() -> Printers {
        Printers { printers: Vec::new() }
    }

    /// Adds the printers of a file, which go before all others. Its name is for messages.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), PrinterError> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            #[serde(default)]
            printer: Vec<Definition>,
        }
        let parsed: File = toml::from_str(text).map_err(|error| PrinterError::Format {
            file: file.to_owned(),
            what: error.to_string(),
        })?;
        let mut printers = Vec::new();
        for definition in parsed.printer {
            let type_ = definition.type_.first().cloned().unwrap_or_default();
            let printer = definition.compile().map_err(|what| PrinterError::Printer {
                file: file.to_owned(),
                type_,
                what,
            })?;
            printers.push(Arc::new(printer));
        }
        printers.append(&mut self.printers);
        self.printers = printers;
        Ok(())
    }

    /// The printer of a type, which the type keeps.
    pub(crate) fn find<'t>(&self, ty: &'t Ty) -> Option<&'t Arc<Printer>> {
        let Kind::Composite(composite) = &ty.kind else { return None };
        if composite.declaration {
            return None;
        }
        let found = ty.printer.get_or_init(|| {
            let name = normal(&ty.true_name);
            let fits = |printer: &&Arc<Printer>| printer.fits(&name, ty.is_rust());
            self.printers.iter().find(fits).cloned()
        });
        found.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_printers_are_right() {
        let mut printers = Printers::none();
        for (name, text) in BUILT_IN {
            printers.add(name, text).unwrap();
        }
        assert!(printers.printers.len() > 40);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let check = |text: &str| Printers::none().add("my.toml", text).unwrap_err().to_string();
        let message = check("[[printer]]\ntype = \"A<*>\"\nvalue = \"x +\"\n");
        assert_eq!(
            message,
            "my.toml, printer of `A<*>`: `x +`: column 4: a value is missing at the end"
        );
        assert!(check("[[printer]]\ntype = \"A\"\nvalu = \"x\"\n").contains("valu"));
        let message = check("[[printer]]\ntype = \"A\"\n");
        assert_eq!(message, "my.toml, printer of `A`: it says nothing to show");
    }
}
