//! Asks everything of a file that may be anything: nothing may panic or take long.

use std::sync::Arc;

use model::Address;
use symbols::{
    Count, Frame, LinkAddress, Location, MemberPlace, Module, NameKind, NoFiles, Options, TypeId,
    TypeKind,
};

/// Has every register, and memory that is full of the address itself.
struct AnyFrame;

impl Frame for AnyFrame {
    fn register(&self, register: u16) -> Option<u128> {
        Some(u128::from(register) << 12)
    }

    fn memory(&self, address: Address, bytes: &mut [u8]) -> bool {
        let pattern = address.0.to_le_bytes();
        for (byte, value) in bytes.iter_mut().zip(pattern.iter().cycle()) {
            *byte = *value;
        }
        true
    }

    fn bias(&self) -> u64 {
        0x5555_0000_0000
    }

    fn thread_local(&self, offset: u64) -> Option<Address> {
        Some(Address(offset))
    }

    fn entry(&self) -> Option<&dyn Frame> {
        Some(&AnyFrame)
    }
}

fn ask_type(module: &Module, id: Option<TypeId>, depth: usize) {
    let _ = module.type_name(id);
    let Some(id) = id else { return };
    let Ok(type_) = module.type_(id) else { return };
    if depth == 0 {
        return;
    }
    match type_.kind {
        TypeKind::Composite(composite) => {
            for member in composite.members.iter().take(8) {
                ask_type(module, member.type_, depth - 1);
                if matches!(member.place, MemberPlace::Computed(_)) {
                    let at = LinkAddress(0);
                    let _ = module.member_address(&member.place, Address(8), at, &AnyFrame);
                }
            }
            for base in composite.bases.iter().take(4) {
                ask_type(module, base.type_, depth - 1);
                let _ = module.member_address(&base.place, Address(8), LinkAddress(0), &AnyFrame);
            }
            if let Some(variants) = composite.variants {
                for variant in variants.variants.iter().take(4) {
                    for member in variant.members.iter().take(4) {
                        ask_type(module, member.type_, depth - 1);
                    }
                }
            }
        }
        TypeKind::Pointer(to) | TypeKind::Typedef(to) | TypeKind::Qualified { of: to, .. } => {
            ask_type(module, to, depth - 1);
        }
        TypeKind::Array(array) => {
            ask_type(module, array.element, depth - 1);
            for dimension in array.dimensions.iter().take(4) {
                if !matches!(dimension.count, Count::Known(_)) {
                    let _ = module.count(dimension, LinkAddress(0), &AnyFrame);
                }
            }
        }
        TypeKind::Function(signature) => {
            for parameter in signature.parameters.iter().take(8) {
                ask_type(module, *parameter, depth - 1);
            }
        }
        _ => {}
    }
}

fn ask_address(module: &Module, address: LinkAddress) {
    let _ = module.line_at(address);
    let _ = module.symbol_at(address);
    let _ = module.data_symbol_at(address);
    let _ = module.behind_prologue(address);
    let _ = module.unwind_row(address);
    let _ = module.caller(address, &AnyFrame);
    for activation in module.activations(address).iter().take(8) {
        let _ = activation.function.tree().short();
        let _ = module.signature(activation.instance);
        let variables = module.variables(activation.instance, address).unwrap_or_default();
        for variable in variables.iter().take(30) {
            let location = module.locate(variable.id, address, &AnyFrame);
            let _ = location.as_ref().map(Location::is_optimised_out);
            ask_type(module, variable.type_, 3);
        }
    }
}

/// Loads a file and asks it all kinds of questions.
pub fn ask_everything(bytes: &[u8]) {
    let options = Options { cache_bytes_max: 16 << 20 };
    let Ok(module) = Module::load(bytes.to_vec().into(), Arc::new(NoFiles), &options) else {
        return;
    };
    let mut addresses: Vec<LinkAddress> = Vec::new();
    for section in module.image().sections.iter().filter(|s| s.executable).take(8) {
        let length = section.range.end.0.saturating_sub(section.range.start.0);
        let step = (length / 24).max(1);
        let parts = (0..24).map(|n| LinkAddress(section.range.start.0.wrapping_add(n * step)));
        addresses.extend(parts);
    }
    addresses.extend(module.symbols().iter().take(40).map(|symbol| symbol.range.start));
    for address in addresses {
        ask_address(&module, address);
    }
    let files = module.source_files();
    for file in files.iter().take(6) {
        let _ = symbols::merged(&module.lines_of_file(&file.path));
    }
    let _ = module.all_lines().len();
    for typed in ["ma", "shape", "std vec", "x"] {
        for found in module.search(typed, 20) {
            if let Some(id) = found.id {
                let _ = module.variable(id);
                let _ = module.locate(id, LinkAddress(0), &AnyFrame);
                ask_type(&module, module.type_of(id), 2);
            }
        }
    }
    for name in ["main", "squared", "geometry::Base", "vector<int>::push_back"] {
        let _ = module.functions_named(name);
        for thing in module.things_named(name, &[NameKind::Type, NameKind::Variable]) {
            ask_type(&module, thing.type_id(), 4);
        }
    }
    let _ = module.troubles();
    let _ = module.memory();
}
