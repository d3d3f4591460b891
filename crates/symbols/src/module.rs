//! A module and the questions that it answers.

use std::sync::Arc;

use model::Address;

use crate::debug::Debug;
use crate::die::DieId;
use crate::error::{Error, Trouble};
use crate::frame::{Frame, Location};
use crate::functions::Activation;
use crate::image::Image;
use crate::index::NameKind;
use crate::lines::{Line, LineRange, SourceFile};
use crate::locator::Locator;
use crate::lookup::{FunctionCode, NamedThing};
use crate::owner::Owner;
use crate::rules::PlaceRule;
use crate::search::Found;
use crate::symtab::Symbol;
use crate::types::{Dimension, MemberPlace, Signature, Type, TypeId};
use crate::unwind::{Caller, UnwindRow};
use crate::variables::Variable;
use crate::{Bytes, LinkAddress};

/// How much a module may hold on to.
#[derive(Clone, Debug)]
pub struct Options {
    /// Details of units (line tables, functions) kept for the next question, in bytes.
    pub cache_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { cache_bytes_max: 256 << 20 }
    }
}

self_cell::self_cell! {
    struct Cell {
        owner: Owner,
        #[not_covariant]
        dependent: Debug,
    }
}

/// A program or library with its debug information. Cheap to share between threads.
pub struct Module {
    cell: Cell,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module").field("build_id", &self.image().build_id).finish_non_exhaustive()
    }
}

/// How many bytes a module holds, besides the files' own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Sections that were compressed in their files.
    pub unpacked: u64,
    /// Details of units, which are dropped when they exceed [`Options::cache_bytes_max`].
    pub cached: u64,
}

impl Module {
    /// Reads what is needed to find the rest: symbols and the headers of all units.
    pub fn load(
        image: Bytes,
        locator: Arc<dyn Locator>,
        options: &Options,
    ) -> Result<Module, Error> {
        let owner = Owner::new(image, locator)?;
        let cell = Cell::try_new(owner, |owner| Debug::new(owner, options))?;
        Ok(Module { cell })
    }

    pub(crate) fn with<T>(&self, ask: impl for<'a> FnOnce(&Debug<'a>) -> T) -> T {
        self.cell.with_dependent(|_, debug| ask(debug))
    }

    /// Identity, sections, segments.
    pub fn image(&self) -> &Image {
        self.cell.with_dependent(|_, debug| &debug.image)
    }

    /// What was found wrong with the debug information so far.
    pub fn troubles(&self) -> Vec<Trouble> {
        self.with(|debug| debug.troubles().list())
    }

    pub fn memory(&self) -> Memory {
        self.with(|debug| Memory {
            unpacked: debug.owner.unpacked_bytes(),
            cached: debug.cached_bytes() as u64,
        })
    }

    /// Whether there is more to say than what symbols say.
    pub fn has_debug_information(&self) -> bool {
        self.with(|debug| !debug.main_file().units.is_empty())
    }

    /// The best symbol for an address of code.
    pub fn symbol_at(&self, address: LinkAddress) -> Option<Symbol> {
        self.with(|debug| debug.symbols.code_at(address.0))
    }

    /// The best symbol for an address of data (not thread-local).
    pub fn data_symbol_at(&self, address: LinkAddress) -> Option<Symbol> {
        self.with(|debug| debug.symbols.data_at(address.0))
    }

    /// All symbols with a name, ascending by address; stubs are asked for as `name@plt`.
    pub fn symbols_named(&self, name: &str) -> Vec<Symbol> {
        self.with(|debug| debug.symbols.named(name))
    }

    /// All symbols, ascending by address.
    pub fn symbols(&self) -> Vec<Symbol> {
        self.with(|debug| debug.symbols.all().collect())
    }

    /// The line of an address.
    pub fn line_at(&self, address: LinkAddress) -> Option<Line> {
        self.with(|debug| debug.line_at(address.0))
    }

    /// The functions being executed at an address: inlined ones, innermost first, then the one
    /// that contains it. Empty without debug information.
    pub fn activations(&self, address: LinkAddress) -> Vec<Activation> {
        self.with(|debug| debug.activations(address.0))
    }

    /// Where to stop in the function that contains an address, to see its arguments: behind its
    /// prologue.
    pub fn behind_prologue(&self, address: LinkAddress) -> Option<LinkAddress> {
        self.with(|debug| debug.behind_prologue(address.0)).map(LinkAddress)
    }

    /// All source files that line tables mention, ascending by path.
    pub fn source_files(&self) -> Vec<Arc<SourceFile>> {
        self.with(|debug| debug.sources().files.clone())
    }

    /// All rows of the line tables for a file, ascending by line, then address. Their addresses
    /// joined are [`crate::merged`].
    pub fn lines_of_file(&self, path: &str) -> Vec<LineRange> {
        self.with(|debug| debug.lines_of_file(path))
    }

    /// All rows of all line tables, table by table.
    pub fn all_lines(&self) -> Vec<Line> {
        self.with(|debug| debug.all_lines())
    }

    /// Functions by name (`f`, `ns::f`, `vector<int>::push_back`) or linkage name, with all code
    /// that was made of them.
    pub fn functions_named(&self, name: &str) -> Vec<FunctionCode> {
        self.with(|debug| debug.functions_named(name))
    }

    /// What has a name, or a path that ends so: each path once.
    pub fn things_named(&self, name: &str, kinds: &[NameKind]) -> Vec<NamedThing> {
        self.with(|debug| debug.things_named(name, kinds))
    }

    /// As [`Module::things_named`]; of several with one path, as static variables of C files are,
    /// the one of the unit that an entry is in.
    pub fn things_named_from(
        &self,
        name: &str,
        kinds: &[NameKind],
        from: DieId,
    ) -> Vec<NamedThing> {
        self.with(|debug| debug.things_named_from(name, kinds, Some(from)))
    }

    /// The value of an enumerator, or of a variable that is nothing but a number.
    pub fn constant(&self, id: DieId) -> Option<i128> {
        self.with(|debug| debug.constant(id))
    }

    /// The type whose functions a table of Rust's is for (`dyn Trait` points to one).
    pub fn vtable_type(&self, table: LinkAddress) -> Option<TypeId> {
        self.with(|debug| debug.vtable_type(table.0))
    }

    /// The names that fit best what was typed so far, best first.
    pub fn search(&self, typed: &str, limit: usize) -> Vec<Found> {
        self.with(|debug| debug.search(typed, limit))
    }

    /// A type; of a declaration, its definition wherever in the module that is.
    pub fn type_(&self, id: TypeId) -> Result<Type, Error> {
        self.with(|debug| debug.read_type(id))
    }

    /// The name of a type as its language writes it, with paths. No type is `void` or `()`.
    pub fn type_name(&self, id: Option<TypeId>) -> String {
        self.with(|debug| debug.type_name(id))
    }

    /// What a function takes and gives.
    pub fn signature(&self, function: DieId) -> Result<Signature, Error> {
        self.with(|debug| debug.signature(&debug.die(function)?))
    }

    /// The type of a variable, member or parameter, the result of a function.
    pub fn type_of(&self, id: DieId) -> Option<TypeId> {
        self.with(|debug| {
            let origins = debug.origins(debug.die(id).ok()?);
            origins.iter().find_map(|die| debug.type_of(die))
        })
    }

    /// The variables that an activation can see at an address, those of the innermost block
    /// first; globals are found by [`Module::things_named`].
    pub fn variables(&self, instance: DieId, address: LinkAddress) -> Result<Vec<Variable>, Error> {
        self.with(|debug| debug.variables(instance, address.0))
    }

    /// What is known about a variable, such as a global one. None if it has no name.
    pub fn variable(&self, id: DieId) -> Result<Option<Variable>, Error> {
        self.with(|debug| debug.variable(id))
    }

    /// Where a variable is in a frame whose next instruction is at an address. For frames that
    /// called, pass an address inside the call: the return address less 1.
    pub fn locate(
        &self,
        variable: DieId,
        address: LinkAddress,
        frame: &dyn Frame,
    ) -> Result<Location, Error> {
        self.with(|debug| debug.locate(variable, address.0, frame))
    }

    /// Where a variable is in every frame at an address, if that is a simple rule: for who asks
    /// often. The address is as for [`Module::locate`], which says the same.
    pub fn place_rule(&self, variable: DieId, address: LinkAddress) -> Option<PlaceRule> {
        self.with(|debug| debug.place_rule(variable, address.0))
    }

    /// The address of a member or base whose place depends on the value at `object`.
    pub fn member_address(
        &self,
        place: &MemberPlace,
        object: Address,
        address: LinkAddress,
        frame: &dyn Frame,
    ) -> Result<Address, Error> {
        match place {
            MemberPlace::Bytes(offset) => Ok(object + *offset),
            MemberPlace::Bits { offset, .. } => Ok(object + *offset / 8),
            MemberPlace::Computed(computation) => {
                let compute = |d: &Debug<'_>| d.compute(computation, object, address.0, frame);
                self.with(|debug| compute(debug)).map(Address)
            }
        }
    }

    /// The number of elements of an array dimension, which may depend on a frame.
    pub fn count(
        &self,
        dimension: &Dimension,
        address: LinkAddress,
        frame: &dyn Frame,
    ) -> Result<Option<u64>, Error> {
        self.with(|debug| debug.count(dimension, address.0, frame))
    }

    /// How to get from an instruction to the caller of its function.
    pub fn unwind_row(&self, address: LinkAddress) -> Result<Option<UnwindRow>, Error> {
        self.with(|debug| debug.unwind_row(address.0))
    }

    /// Where the registers of a frame's caller are. None if nothing is said about the address.
    pub fn caller(&self, address: LinkAddress, frame: &dyn Frame) -> Result<Option<Caller>, Error> {
        self.with(|debug| debug.caller(address.0, frame))
    }
}
