//! Names of types as their language writes them.

use gimli::constants;

use super::{Array, Count, Qualifier, Signature, TemplateValue, TypeId, TypeKind};
use crate::debug::Debug;
use crate::die::Die;
use crate::language::Language;

/// Types that one name may be made of, and types within types.
const TYPES_MAX: usize = 1000;
const DEPTH_MAX: usize = 64;
/// What stands for what is too much, or cannot be read.
const REST: &str = "…";

impl<'a> Debug<'a> {
    /// The name of a type, with paths: `const char *`, `int (*)(int)`, `std::vector<…>`, `&str`.
    pub fn type_name(&self, id: Option<TypeId>) -> String {
        let rust = id.is_some_and(|id| self.head(id.0.unit).is_ok_and(|head| head.is_rust()));
        let mut printer = Printer { debug: self, left: TYPES_MAX, depth: 0 };
        if rust { printer.rust(id) } else { printer.declare(id, String::new()) }
    }

    /// The name of a type with its path; template arguments are added where they are missing
    /// (`-gsimple-template-names`).
    fn path_name(&self, die: &Die<'a>, printer: &mut Printer<'_, 'a>) -> Option<String> {
        let name = self.string(die, constants::DW_AT_name)?;
        let head = self.head(die.id.unit).ok()?;
        let declared = self.referred(die, constants::DW_AT_specification).unwrap_or(die.id);
        let mut components = self.scope_path(declared, head.language);
        let has_arguments = name.contains('<') || head.language != Language::Cpp;
        let mut name = name;
        let simple = !has_arguments
            && matches!(
                die.entry.tag(),
                constants::DW_TAG_structure_type
                    | constants::DW_TAG_class_type
                    | constants::DW_TAG_union_type
            );
        if simple {
            let arguments = printer.template_arguments(die);
            if !arguments.is_empty() {
                name = format!("{name}<{}>", arguments.join(", "));
            }
        }
        components.push(name);
        Some(components.join(head.language.separator()))
    }
}

struct Printer<'d, 'a> {
    debug: &'d Debug<'a>,
    left: usize,
    depth: usize,
}

impl<'a> Printer<'_, 'a> {
    /// Makes a declaration: what is declared is written inside out, as C has it.
    fn declare(&mut self, id: Option<TypeId>, declarator: String) -> String {
        let Some(id) = id else { return join("void", &declarator) };
        let Some(left) = self.left.checked_sub(1).filter(|_| self.depth < DEPTH_MAX) else {
            return join(REST, &declarator);
        };
        self.left = left;
        self.depth += 1;
        let declared = self.declare_known(id, declarator);
        self.depth -= 1;
        declared
    }

    fn declare_known(&mut self, id: TypeId, declarator: String) -> String {
        let Some(die) = self.named_die(id) else { return join(REST, &declarator) };
        let to = self.debug.type_of(&die);
        let pointer = |sign: String, printer: &mut Self| {
            let inner = format!("{sign}{declarator}");
            let bracketed = printer.binds_tighter(to);
            printer.declare(to, if bracketed { format!("({inner})") } else { inner })
        };
        match die.entry.tag() {
            constants::DW_TAG_pointer_type => pointer("*".to_owned(), self),
            constants::DW_TAG_reference_type => pointer("&".to_owned(), self),
            constants::DW_TAG_rvalue_reference_type => pointer("&&".to_owned(), self),
            constants::DW_TAG_ptr_to_member_type => {
                let class = self.debug.referred(&die, constants::DW_AT_containing_type);
                let class = self.declare(class.map(TypeId), String::new());
                pointer(format!("{class}::*"), self)
            }
            constants::DW_TAG_const_type => self.qualify("const", to, declarator),
            constants::DW_TAG_volatile_type => self.qualify("volatile", to, declarator),
            constants::DW_TAG_restrict_type => self.qualify("restrict", to, declarator),
            constants::DW_TAG_atomic_type => self.qualify("_Atomic", to, declarator),
            constants::DW_TAG_array_type => self.declare_array(id, &declarator),
            constants::DW_TAG_subroutine_type => self.declare_function(&die, &declarator),
            _ => {
                let name = self.named(&die);
                join(&name, &declarator)
            }
        }
    }

    /// The entry of a type; where it only stands for one in a type unit, that.
    fn named_die(&self, id: TypeId) -> Option<Die<'a>> {
        let die = self.debug.die(id.0).ok()?;
        if die.has(constants::DW_AT_name) {
            return Some(die);
        }
        match self.debug.referred(&die, constants::DW_AT_signature) {
            Some(definition) => self.debug.die(definition).ok(),
            None => Some(die),
        }
    }

    /// Whether a pointer to the type needs brackets.
    fn binds_tighter(&self, id: Option<TypeId>) -> bool {
        let tag = id.and_then(|id| Some(self.debug.die(id.0).ok()?.entry.tag()));
        matches!(tag, Some(constants::DW_TAG_array_type | constants::DW_TAG_subroutine_type))
    }

    fn qualify(&mut self, word: &str, of: Option<TypeId>, declarator: String) -> String {
        let tag = of.and_then(|id| Some(self.debug.die(id.0).ok()?.entry.tag()));
        match tag {
            Some(
                constants::DW_TAG_pointer_type
                | constants::DW_TAG_reference_type
                | constants::DW_TAG_rvalue_reference_type
                | constants::DW_TAG_ptr_to_member_type,
            ) => {
                let declarator = join(word, &declarator);
                self.declare(of, declarator)
            }
            _ => format!("{word} {}", self.declare(of, declarator)),
        }
    }

    fn declare_array(&mut self, id: TypeId, declarator: &str) -> String {
        let Ok(TypeKind::Array(array)) = self.debug.read_type(id).map(|t| t.kind) else {
            return join(REST, declarator);
        };
        let brackets: String =
            array.dimensions.iter().map(|d| format!("[{}]", count(&d.count))).collect();
        if array.vector {
            let element = self.declare(array.element, String::new());
            return join(&format!("{element} __vector{brackets}"), declarator);
        }
        self.declare(array.element, format!("{declarator}{brackets}"))
    }

    fn declare_function(&mut self, die: &Die<'a>, declarator: &str) -> String {
        let Ok(signature) = self.debug.signature(die) else { return join(REST, declarator) };
        let parameters = self.parameters(&signature);
        let parameters =
            if parameters.is_empty() { "void".to_owned() } else { parameters.join(", ") };
        self.declare(signature.result, format!("{declarator}({parameters})"))
    }

    fn parameters(&mut self, signature: &Signature) -> Vec<String> {
        let mut parameters = Vec::new();
        for parameter in &signature.parameters {
            if self.left == 0 {
                break;
            }
            parameters.push(self.declare(*parameter, String::new()));
        }
        if signature.variadic {
            parameters.push("...".to_owned());
        }
        parameters
    }

    /// A type that has a name, or should have.
    fn named(&mut self, die: &Die<'a>) -> String {
        let name = self.debug.path_name(die, self);
        // Long names count for more.
        self.left = self.left.saturating_sub(name.as_ref().map_or(0, |name| name.len() / 100));
        let word = match die.entry.tag() {
            constants::DW_TAG_structure_type => "struct",
            constants::DW_TAG_class_type => "class",
            constants::DW_TAG_union_type => "union",
            constants::DW_TAG_enumeration_type => "enum",
            constants::DW_TAG_base_type => {
                return name.map_or_else(|| REST.to_owned(), |name| usual_name(&name).to_owned());
            }
            _ => return name.unwrap_or_else(|| REST.to_owned()),
        };
        let language = self.debug.head(die.id.unit).map_or(Language::Unknown, |head| head.language);
        match name {
            // In C the word is a part of the name.
            Some(name) if language == Language::C => format!("{word} {name}"),
            Some(name) => name,
            None => format!("{word} {{…}}"),
        }
    }

    fn template_arguments(&mut self, die: &Die<'a>) -> Vec<String> {
        let Ok(TypeKind::Composite(composite)) =
            self.debug.read_type(TypeId(die.id)).map(|t| t.kind)
        else {
            return Vec::new();
        };
        let mut arguments = Vec::new();
        for argument in composite.template_arguments {
            arguments.push(match argument.value {
                TemplateValue::Type(id) => self.declare(id, String::new()),
                TemplateValue::Constant(_, value) => value.to_string(),
                TemplateValue::Template(name) => name,
                TemplateValue::Unknown => REST.to_owned(),
            });
        }
        arguments
    }

    /// Rust gives most types their names; arrays and function pointers are put together.
    fn rust(&mut self, id: Option<TypeId>) -> String {
        let Some(id) = id else { return "()".to_owned() };
        let Some(left) = self.left.checked_sub(1).filter(|_| self.depth < DEPTH_MAX) else {
            return REST.to_owned();
        };
        self.left = left;
        self.depth += 1;
        let name = self.rust_known(id);
        self.depth -= 1;
        name
    }

    fn rust_known(&mut self, id: TypeId) -> String {
        let Ok(die) = self.debug.die(id.0) else { return REST.to_owned() };
        let name = self.debug.string(&die, constants::DW_AT_name);
        let is_path = matches!(
            die.entry.tag(),
            constants::DW_TAG_structure_type
                | constants::DW_TAG_union_type
                | constants::DW_TAG_enumeration_type
        );
        if let Some(name) = name {
            // `&str`, `(u8, bool)`, `[T]`, `dyn Trait` are written out whole.
            let plain = name.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_');
            let path = is_path && plain && !name.starts_with("dyn ");
            return if path { self.debug.path_name(&die, self).unwrap_or(name) } else { name };
        }
        match self.debug.read_type(id).map(|t| t.kind) {
            Ok(TypeKind::Array(Array { element, dimensions, .. })) => {
                let mut text = self.rust(element);
                for dimension in dimensions.iter().rev() {
                    text = format!("[{text}; {}]", count(&dimension.count));
                }
                text
            }
            Ok(TypeKind::Pointer(to)) => format!("*{}", self.rust(to)),
            Ok(TypeKind::Qualified { qualifier: Qualifier::Const, of }) => {
                format!("const {}", self.rust(of))
            }
            Ok(TypeKind::Function(signature)) => {
                let mut parameters = Vec::new();
                for parameter in &signature.parameters {
                    parameters.push(self.rust(*parameter));
                }
                let result = match signature.result {
                    Some(result) => format!(" -> {}", self.rust(Some(result))),
                    None => String::new(),
                };
                format!("fn({}){result}", parameters.join(", "))
            }
            _ => REST.to_owned(),
        }
    }
}

/// The name that people use for a base type of C, where gcc spells it out.
fn usual_name(name: &str) -> &str {
    match name {
        "short int" => "short",
        "long int" => "long",
        "long long int" => "long long",
        "short unsigned int" => "unsigned short",
        "long unsigned int" => "unsigned long",
        "long long unsigned int" => "unsigned long long",
        name => name,
    }
}

fn count(count: &Count) -> String {
    match count {
        Count::Known(count) => count.to_string(),
        Count::Computed(_) | Count::UpTo(_) | Count::Unknown => String::new(),
    }
}

/// A type and what is declared with it: `int *x`, but `int[3]`.
fn join(name: &str, declarator: &str) -> String {
    if declarator.is_empty() { name.to_owned() } else { format!("{name} {declarator}") }
}
