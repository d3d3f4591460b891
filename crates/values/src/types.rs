//! Types, looked up once and kept: what [`symbols::Type`] says, seen through typedefs and
//! qualifiers, and types that the program does not have (`&x`, `*p@4`, numbers of literals).

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustc_hash::FxHashMap;
use symbols::{
    Composite, Count, Dimension, Encoding, Enumeration, Language, Module, Name, NameKind, TypeId,
    TypeKind,
};

use crate::printers::Printer;

/// Typedefs of typedefs.
const HOPS_MAX: usize = 64;
/// Types kept; all are dropped when there are more.
const KEPT_MAX: usize = 200_000;

/// A type with what is needed to read a value of it.
#[derive(Debug)]
pub(crate) struct Ty {
    /// The module whose identifiers it has. None for types that the program does not have.
    pub module: Option<Arc<Module>>,
    /// As it was declared: maybe of a typedef.
    pub name: String,
    /// Behind typedefs and qualifiers.
    pub true_name: String,
    /// In bytes, if it is known without a frame.
    pub size: Option<u64>,
    pub language: Language,
    pub kind: Kind,
    /// How it is shown, once that was looked for.
    pub printer: OnceLock<Option<Arc<Printer>>>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Void,
    Base(Encoding),
    Pointer(Link),
    Reference(Link),
    MemberPointer {
        class: Link,
        to: Link,
    },
    Composite(Composite),
    Array(ArrayKind),
    Enumeration(Enumeration),
    Function,
    Unspecified,
    /// Not understood, or broken.
    Other(String),
}

#[derive(Debug)]
pub(crate) struct ArrayKind {
    pub element: Link,
    /// Outermost first, at least one.
    pub dimensions: Vec<Dimension>,
}

/// What a type refers to.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    Id(Option<TypeId>),
    Made(Arc<Ty>),
}

impl Ty {
    pub fn is_rust(&self) -> bool {
        self.language == Language::Rust
    }

    pub fn composite(&self) -> Option<&Composite> {
        match &self.kind {
            Kind::Composite(composite) => Some(composite),
            _ => None,
        }
    }

    /// What a pointer or reference points to.
    pub fn target(&self) -> Option<&Link> {
        match &self.kind {
            Kind::Pointer(link) | Kind::Reference(link) => Some(link),
            _ => None,
        }
    }

    /// Whether it is one of the characters of C and C++ that strings are made of.
    pub fn is_character(&self) -> bool {
        match &self.kind {
            Kind::Base(Encoding::SignedCharacter | Encoding::UnsignedCharacter) => true,
            Kind::Base(Encoding::Unicode) => !self.is_rust(),
            Kind::Base(Encoding::Signed | Encoding::Unsigned) => self.name.contains("wchar_t"),
            _ => false,
        }
    }

    fn plain(name: &str, size: Option<u64>, language: Language, kind: Kind) -> Ty {
        let name = name.to_owned();
        let printer = OnceLock::new();
        Ty { module: None, true_name: name.clone(), name, size, language, kind, printer }
    }
}

type Key = (usize, Option<TypeId>);

/// All types met so far.
#[derive(Debug, Default)]
pub(crate) struct Types {
    /// By the address of the module, which a kept type keeps from being used again.
    kept: Mutex<FxHashMap<Key, Arc<Ty>>>,
    named: Mutex<FxHashMap<(usize, String), Option<TypeId>>>,
}

impl Types {
    pub fn get(&self, module: &Arc<Module>, id: Option<TypeId>) -> Arc<Ty> {
        let key = (Arc::as_ptr(module) as usize, id);
        if let Some(kept) = lock(&self.kept).get(&key) {
            return Arc::clone(kept);
        }
        let ty = Arc::new(read(module, id));
        let mut kept = lock(&self.kept);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&ty));
        ty
    }

    pub fn follow(&self, from: &Ty, link: &Link) -> Arc<Ty> {
        match link {
            Link::Made(ty) => Arc::clone(ty),
            Link::Id(id) => self.of(from, *id),
        }
    }

    /// A type that another one mentions.
    pub fn of(&self, from: &Ty, id: Option<TypeId>) -> Arc<Ty> {
        match &from.module {
            Some(module) => self.get(module, id),
            None => void(),
        }
    }

    /// A type of a module by its name with path, whatever the spacing of its template arguments.
    pub fn named(&self, module: &Arc<Module>, name: &str) -> Option<Arc<Ty>> {
        let key = (Arc::as_ptr(module) as usize, name.to_owned());
        let known = lock(&self.named).get(&key).copied();
        let id = match known {
            Some(id) => id,
            None => {
                let id = find_named(module, name);
                let mut named = lock(&self.named);
                if named.len() >= KEPT_MAX {
                    named.clear();
                }
                named.insert(key, id);
                id
            }
        };
        // The module stays, so that its address is not used again while its names are kept.
        id.map(|id| self.get(module, Some(id)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that can panic happens while it is locked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find_named(module: &Module, name: &str) -> Option<TypeId> {
    let kinds = [NameKind::Type];
    let parsed = Name::parse(name);
    let path = parsed.components().join("::");
    let things = module.things_named(&path, &kinds);
    let wanted = normal(name);
    let exact = things.iter().find(|thing| normal(&thing.full_name) == wanted);
    let found = exact.or_else(|| {
        // By the end of its path.
        let ends = |full: &str| {
            full.strip_suffix(&wanted).is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
        };
        things.iter().find(|thing| ends(&normal(&thing.full_name)))
    });
    found.and_then(|thing| thing.type_id())
}

/// A name as producers agree on: without spaces, suffixes of numbers, and inline namespaces.
pub(crate) fn normal(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut chars = name.chars().peekable();
    let mut in_number = false;
    while let Some(c) = chars.next() {
        if c.is_whitespace() {
            // `unsigned int` keeps its border.
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let before = text.chars().next_back().is_some_and(word);
            if before && chars.peek().is_some_and(|next| word(*next)) {
                text.push(' ');
            }
            continue;
        }
        let begins = !text.chars().next_back().is_some_and(|b| b.is_alphanumeric() || b == '_');
        in_number = c.is_ascii_digit() && (in_number || begins);
        text.push(c);
        if in_number {
            while chars.peek().is_some_and(|next| "uUlL".contains(*next)) {
                chars.next();
            }
        }
    }
    text.replace("__cxx11::", "").replace("__debug::", "")
}

/// No type.
pub(crate) fn void() -> Arc<Ty> {
    Arc::new(Ty::plain("void", None, Language::Unknown, Kind::Void))
}

fn read(module: &Arc<Module>, id: Option<TypeId>) -> Ty {
    let name = module.type_name(id);
    let mut next = id;
    let mut language = Language::Unknown;
    for _ in 0..HOPS_MAX {
        let Some(known) = next else {
            let ty = Ty::plain(&name, None, language, Kind::Void);
            return Ty { module: Some(Arc::clone(module)), ..ty };
        };
        let found = match module.type_(known) {
            Ok(found) => found,
            Err(error) => {
                let ty = Ty::plain(&name, None, language, Kind::Other(error.to_string()));
                return Ty { module: Some(Arc::clone(module)), ..ty };
            }
        };
        language = found.language;
        if let TypeKind::Typedef(of) | TypeKind::Qualified { of, .. } = found.kind {
            next = of;
            continue;
        }
        let true_name =
            if Some(found.id) == id { name.clone() } else { module.type_name(Some(known)) };
        return Ty {
            module: Some(Arc::clone(module)),
            name,
            true_name,
            size: found.size,
            language,
            kind: kind(found.kind),
            printer: OnceLock::new(),
        };
    }
    Ty::plain(&name, None, language, Kind::Other("typedefs without an end".to_owned()))
}

fn kind(kind: TypeKind) -> Kind {
    match kind {
        TypeKind::Base(encoding) => Kind::Base(encoding),
        TypeKind::Pointer(to) => Kind::Pointer(Link::Id(to)),
        TypeKind::Reference { to, .. } => Kind::Reference(Link::Id(to)),
        TypeKind::MemberPointer { class, to } => {
            Kind::MemberPointer { class: Link::Id(class), to: Link::Id(to) }
        }
        TypeKind::Composite(composite) => Kind::Composite(composite),
        TypeKind::Array(array) => Kind::Array(ArrayKind {
            element: Link::Id(array.element),
            dimensions: array.dimensions,
        }),
        TypeKind::Enumeration(enumeration) => Kind::Enumeration(enumeration),
        TypeKind::Function(_) => Kind::Function,
        TypeKind::Unspecified => Kind::Unspecified,
        TypeKind::Typedef(_) | TypeKind::Qualified { .. } => {
            Kind::Other("a type within itself".to_owned())
        }
        TypeKind::Other(tag) => Kind::Other(format!("a type with tag {tag:#x}")),
    }
}

/// A pointer to a type.
pub(crate) fn pointer_to(ty: &Arc<Ty>) -> Arc<Ty> {
    let name = if ty.is_rust() {
        format!("*mut {}", ty.name)
    } else if let Some(at) = ty.name.find("(*") {
        format!("{}*{}", &ty.name[..=at], &ty.name[at + 1..])
    } else if let (Kind::Array(_), Some(at)) = (&ty.kind, ty.name.find('[')) {
        format!("{} (*){}", ty.name[..at].trim_end(), &ty.name[at..])
    } else if let (Kind::Function, Some(at)) = (&ty.kind, ty.name.find('(')) {
        format!("{} (*){}", ty.name[..at].trim_end(), &ty.name[at..])
    } else if ty.name.ends_with('*') {
        format!("{}*", ty.name)
    } else {
        format!("{} *", ty.name)
    };
    made(ty, name, Some(8), Kind::Pointer(Link::Made(Arc::clone(ty))))
}

/// An array of so many.
pub(crate) fn array_of(ty: &Arc<Ty>, count: u64) -> Arc<Ty> {
    let name = if ty.is_rust() {
        format!("[{}; {count}]", ty.name)
    } else if let Some(at) = ty.name.find('[') {
        format!("{}[{count}]{}", &ty.name[..at], &ty.name[at..])
    } else {
        format!("{}[{count}]", ty.name)
    };
    let dimensions = vec![Dimension { lower: 0, count: Count::Known(count) }];
    let element = Link::Made(Arc::clone(ty));
    let size = ty.size.and_then(|size| size.checked_mul(count));
    made(ty, name, size, Kind::Array(ArrayKind { element, dimensions }))
}

/// What an array of several dimensions is an array of.
pub(crate) fn row_of(types: &Types, ty: &Ty, array: &ArrayKind) -> Arc<Ty> {
    let element = types.follow(ty, &array.element);
    let rest = array.dimensions.get(1..).unwrap_or_default();
    if rest.is_empty() {
        return element;
    }
    let mut name = element.name.clone();
    let mut size = element.size;
    for dimension in rest {
        match dimension.count {
            Count::Known(count) => {
                name.push_str(&format!("[{count}]"));
                size = size.and_then(|size| size.checked_mul(count));
            }
            _ => {
                name.push_str("[]");
                size = None;
            }
        }
    }
    let kind = Kind::Array(ArrayKind { element: array.element.clone(), dimensions: rest.to_vec() });
    let module = ty.module.clone();
    let true_name = name.clone();
    Arc::new(Ty {
        module,
        name,
        true_name,
        size,
        language: ty.language,
        kind,
        printer: OnceLock::new(),
    })
}

fn made(of: &Ty, name: String, size: Option<u64>, kind: Kind) -> Arc<Ty> {
    let module = of.module.clone();
    let true_name = name.clone();
    Arc::new(Ty {
        module,
        name,
        true_name,
        size,
        language: of.language,
        kind,
        printer: OnceLock::new(),
    })
}

/// Base types by the names that people write; sizes are those of x86-64 Linux.
const BASES: &[(&str, Encoding, u64)] = &[
    ("bool", Encoding::Boolean, 1),
    ("char", Encoding::SignedCharacter, 1),
    ("signed char", Encoding::SignedCharacter, 1),
    ("unsigned char", Encoding::UnsignedCharacter, 1),
    ("short", Encoding::Signed, 2),
    ("unsigned short", Encoding::Unsigned, 2),
    ("int", Encoding::Signed, 4),
    ("unsigned int", Encoding::Unsigned, 4),
    ("long", Encoding::Signed, 8),
    ("unsigned long", Encoding::Unsigned, 8),
    ("long long", Encoding::Signed, 8),
    ("unsigned long long", Encoding::Unsigned, 8),
    ("__int128", Encoding::Signed, 16),
    ("unsigned __int128", Encoding::Unsigned, 16),
    ("float", Encoding::Float, 4),
    ("double", Encoding::Float, 8),
    ("long double", Encoding::Float, 16),
    ("wchar_t", Encoding::Signed, 4),
    ("char8_t", Encoding::Unicode, 1),
    ("char16_t", Encoding::Unicode, 2),
    ("char32_t", Encoding::Unicode, 4),
    ("int8_t", Encoding::SignedCharacter, 1),
    ("uint8_t", Encoding::UnsignedCharacter, 1),
    ("int16_t", Encoding::Signed, 2),
    ("uint16_t", Encoding::Unsigned, 2),
    ("int32_t", Encoding::Signed, 4),
    ("uint32_t", Encoding::Unsigned, 4),
    ("int64_t", Encoding::Signed, 8),
    ("uint64_t", Encoding::Unsigned, 8),
    ("size_t", Encoding::Unsigned, 8),
    ("ssize_t", Encoding::Signed, 8),
    ("intptr_t", Encoding::Signed, 8),
    ("uintptr_t", Encoding::Unsigned, 8),
    ("ptrdiff_t", Encoding::Signed, 8),
];

const RUST_BASES: &[(&str, Encoding, u64)] = &[
    ("bool", Encoding::Boolean, 1),
    ("char", Encoding::Unicode, 4),
    ("i8", Encoding::Signed, 1),
    ("u8", Encoding::Unsigned, 1),
    ("i16", Encoding::Signed, 2),
    ("u16", Encoding::Unsigned, 2),
    ("i32", Encoding::Signed, 4),
    ("u32", Encoding::Unsigned, 4),
    ("i64", Encoding::Signed, 8),
    ("u64", Encoding::Unsigned, 8),
    ("i128", Encoding::Signed, 16),
    ("u128", Encoding::Unsigned, 16),
    ("isize", Encoding::Signed, 8),
    ("usize", Encoding::Unsigned, 8),
    ("f32", Encoding::Float, 4),
    ("f64", Encoding::Float, 8),
];

/// A base type by its name, in the language if it has it, else in the other.
pub(crate) fn base_named(name: &str, language: Language) -> Option<Arc<Ty>> {
    let in_list = |list: &[(&str, Encoding, u64)], language| {
        let (name, encoding, size) = list.iter().find(|(known, ..)| *known == name)?;
        Some(Arc::new(Ty::plain(name, Some(*size), language, Kind::Base(*encoding))))
    };
    if name == "void" {
        return Some(Arc::new(Ty::plain("void", None, language, Kind::Void)));
    }
    let c = if language == Language::C { Language::C } else { Language::Cpp };
    if language == Language::Rust {
        in_list(RUST_BASES, language).or_else(|| in_list(BASES, Language::C))
    } else {
        in_list(BASES, c).or_else(|| in_list(RUST_BASES, Language::Rust))
    }
}

/// The usual type of a number of a size, for results of arithmetic.
pub(crate) fn number_type(encoding: Encoding, size: u64, language: Language) -> Arc<Ty> {
    let rust = language == Language::Rust;
    let list = if rust { RUST_BASES } else { BASES };
    let mut fitting = list.iter().filter(|(_, e, s)| *e == encoding && *s == size);
    let name = fitting.next().map_or("number", |(name, ..)| *name);
    let language = if rust || language == Language::C { language } else { Language::Cpp };
    Arc::new(Ty::plain(name, Some(size), language, Kind::Base(encoding)))
}
