//! Where in the program an address is: module, function, inlined calls, source line.

use std::sync::Arc;

use model::{Address, Moment};
use rustc_hash::FxHashMap;
use symbols::{Activation, Line, LinkAddress};

use crate::database::Database;
use crate::modules::Loaded;
use crate::protocol::{Hex, Place};

/// Addresses that are known, at most.
const KNOWN_MAX: usize = 1 << 17;

/// Addresses that were looked up.
#[derive(Debug, Default)]
pub struct Places {
    known: FxHashMap<(usize, LinkAddress), Arc<Code>>,
}

/// What symbols say of an address.
#[derive(Clone, Debug, Default)]
pub struct Code {
    /// Innermost inlined call first.
    pub activations: Vec<Activation>,
    pub line: Option<Line>,
    /// Where there is no debug information.
    pub symbol: Option<String>,
}

/// An address with what is known of it.
#[derive(Clone, Debug)]
pub struct Spot {
    pub address: Address,
    pub loaded: Option<Loaded>,
    /// What the kernel or the program calls the memory, where it is no module.
    pub mapping: Option<Arc<str>>,
    pub code: Arc<Code>,
}

impl Places {
    /// Looks an address of code up.
    pub fn look(&mut self, db: &Database, space: u32, address: Address, moment: Moment) -> Spot {
        let mapped = db.history.mapped(space, address, moment);
        let loaded = mapped.and_then(|mapped| db.modules.of_mapping(mapped));
        let code = match &loaded {
            Some(loaded) => self.code(loaded, loaded.link(address)),
            None => Arc::default(),
        };
        Spot { address, loaded, mapping: mapped.map(|mapped| Arc::clone(&mapped.name)), code }
    }

    fn code(&mut self, loaded: &Loaded, link: LinkAddress) -> Arc<Code> {
        let key = (Arc::as_ptr(&loaded.module) as usize, link);
        if let Some(known) = self.known.get(&key) {
            return Arc::clone(known);
        }
        let code = loaded.module.symbols().map(|symbols| {
            let activations = symbols.activations(link);
            let symbol = activations.is_empty().then(|| symbols.symbol_at(link)).flatten();
            let symbol =
                symbol.map(|symbol| symbols::demangle(&symbol.name).unwrap_or(symbol.name));
            Code { activations, line: symbols.line_at(link), symbol }
        });
        let code = Arc::new(code.unwrap_or_default());
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(key, Arc::clone(&code));
        code
    }
}

impl Spot {
    /// How many functions are being executed there: one and those inlined into it.
    pub fn levels(&self) -> usize {
        self.code.activations.len().max(1)
    }

    /// The place as a frame sees it that is `inlined` deep in what was inlined there; of the
    /// innermost one that is the line itself, of others the call in them.
    pub fn place(&self, inlined: usize) -> Place {
        let activations = &self.code.activations;
        let index = activations.len().saturating_sub(1 + inlined);
        let activation = activations.get(index);
        let (file, line, column) =
            match index.checked_sub(1).and_then(|inner| activations.get(inner)) {
                Some(inner) => {
                    let at = inner.called_at.as_ref();
                    (at.map(|at| &at.file), at.map(|at| at.line), at.map(|at| at.column))
                }
                None => {
                    let at = self.code.line.as_ref();
                    (at.map(|at| &at.file), at.map(|at| at.line), at.map(|at| at.column))
                }
            };
        let full = activation
            .map(|activation| activation.function.full_name.clone())
            .or_else(|| self.code.symbol.clone());
        let function = match activation {
            Some(activation) => Some(activation.function.tree().short()),
            None => full.as_deref().map(|name| symbols::Name::parse(name).short()),
        };
        let file = file.map(|file| file.path.clone());
        let own = self.is_own(file.as_deref());
        Place {
            address: Some(Hex(self.address.0)),
            module: self
                .loaded
                .as_ref()
                .map(|loaded| loaded.module.name().to_owned())
                .or_else(|| self.mapping.as_ref().map(|name| name.to_string())),
            function,
            full,
            file,
            line: line.filter(|line| *line != 0),
            column: column.filter(|column| *column != 0),
            own,
        }
    }

    /// The innermost place.
    pub fn innermost(&self) -> Place {
        self.place(self.levels() - 1)
    }

    fn is_own(&self, file: Option<&str>) -> bool {
        let module = self.loaded.as_ref().is_some_and(|loaded| loaded.module.is_own());
        module && file.is_some_and(is_own_source)
    }
}

/// Whether a source file is the user's and not the system's.
pub fn is_own_source(path: &str) -> bool {
    const SYSTEM: [&str; 7] =
        ["/usr/", "/build/", "/rustc/", "/lib/", "./", "../sysdeps/", "/opt/"];
    let vendored = path.contains("/.cargo/registry/") || path.contains("/.rustup/");
    !vendored && !SYSTEM.iter().any(|prefix| path.starts_with(prefix))
}
