/* Rows: a request's values checked as `prepare/signature.py` does, and turned into features as
   `prepare/row.py` does. The usual value of a field is looked at here; any other is handed to the
   field's own check in Python, so that there is one meaning of every unusual value. Likewise a step
   that has no instruction here is called as it is, on the same registers. */
#include "kernel.h"

#include <math.h>
#include <string.h>

typedef struct {
    PyObject *name, *check, *read; /* read: what a checked value becomes in its register, or NULL */
    Py_ssize_t place;              /* its register, or -1 */
    char kind;                     /* n(umber), t(ext), b(oolean), o(ther) */
    int nullable;
} Field;

typedef struct {
    char kind;
    Py_ssize_t from, to, n;
    PyObject *table, *other;
    double a, b;
} Instruction;

typedef struct {
    PyObject_HEAD
    Field *fields;
    Instruction *instructions;
    Py_ssize_t *features;
    Py_ssize_t n_fields, n_instructions, n_features, n_registers;
    PyObject *zero, *one, *target;
    int refuses_unknown;
} Rows;

static int with_fields(Rows *rows, PyObject *list)
{
    Py_ssize_t n = PyList_Size(list);
    if (n < 0 || (rows->fields = PyMem_Calloc((size_t)n + 1, sizeof(Field))) == NULL)
        return -1;
    for (Py_ssize_t i = 0; i < n; i++) {
        Field *field = &rows->fields[i];
        PyObject *name, *check, *read;
        int kind;
        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "UCpOnO", &name, &kind, &field->nullable, &check,
                              &field->place, &read))
            return -1;
        if (field->place >= rows->n_registers) {
            PyErr_SetString(PyExc_ValueError, "a field's place is no register");
            return -1;
        }
        field->kind = (char)kind;
        field->name = Py_NewRef(name);
        PyUnicode_InternInPlace(&field->name);
        field->check = Py_NewRef(check);
        field->read = read == Py_None ? NULL : Py_NewRef(read);
        rows->n_fields = i + 1;
    }
    return 0;
}

static int fits(const Rows *rows, const Instruction *it)
{
    Py_ssize_t last = it->kind == 'h' ? it->to + it->n - 1 : it->to;
    if (it->kind == 'c')
        return PyCallable_Check(it->table);
    if (strchr("lhrfmszg", it->kind) == NULL || it->from < 0 || it->from >= rows->n_registers)
        return 0;
    if (it->to < 0 || it->n < 0 || last >= rows->n_registers || it->n > rows->n_registers)
        return 0;
    if ((it->kind == 'l' || it->kind == 'h') && !PyDict_Check(it->table))
        return 0;
    return it->kind != 'r' || PyAnySet_Check(it->table);
}

static int with_instructions(Rows *rows, PyObject *list)
{
    Py_ssize_t n = PyList_Size(list);
    if (n < 0 || (rows->instructions = PyMem_Calloc((size_t)n + 1, sizeof(Instruction))) == NULL)
        return -1;
    for (Py_ssize_t i = 0; i < n; i++) {
        Instruction *it = &rows->instructions[i];
        PyObject *table, *other;
        int kind;
        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "CnnnOOdd", &kind, &it->from, &it->to, &it->n,
                              &table, &other, &it->a, &it->b))
            return -1;
        it->kind = (char)kind;
        it->table = Py_NewRef(table);
        it->other = Py_NewRef(other);
        rows->n_instructions = i + 1;
        if (!fits(rows, it)) {
            PyErr_Format(PyExc_ValueError, "instruction %zd does not fit", i);
            return -1;
        }
    }
    return 0;
}

static int with_features(Rows *rows, PyObject *list)
{
    Py_ssize_t n = PyList_Size(list);
    if (n < 0 || (rows->features = PyMem_Calloc((size_t)n + 1, sizeof(Py_ssize_t))) == NULL)
        return -1;
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_ssize_t place = PyNumber_AsSsize_t(PyList_GetItem(list, i), PyExc_OverflowError);
        if (place == -1 && PyErr_Occurred())
            return -1;
        if (place < 0 || place >= rows->n_registers) {
            PyErr_SetString(PyExc_ValueError, "a feature's place is no register");
            return -1;
        }
        rows->features[i] = place;
    }
    rows->n_features = n;
    return 0;
}

static PyObject *rows_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fields", "instructions", "features", "n_registers", "refuses_unknown", "target",
                            NULL};
    PyObject *fields, *instructions, *features, *target;
    Py_ssize_t n_registers;
    int refuses_unknown;
    PyTypeObject *list = &PyList_Type;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!O!npO", names, list, &fields, list, &instructions,
                                     list, &features, &n_registers, &refuses_unknown, &target))
        return NULL;
    if (n_registers < 1) {
        PyErr_SetString(PyExc_ValueError, "there are no registers");
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Rows *rows = (Rows *)alloc(type, 0);
    if (rows == NULL)
        return NULL;
    rows->n_registers = n_registers;
    rows->refuses_unknown = refuses_unknown;
    rows->target = Py_NewRef(target);
    rows->zero = PyFloat_FromDouble(0.0);
    rows->one = PyFloat_FromDouble(1.0);
    if (rows->zero == NULL || rows->one == NULL || with_fields(rows, fields) < 0 ||
        with_instructions(rows, instructions) < 0 || with_features(rows, features) < 0) {
        if (!PyErr_Occurred())
            PyErr_NoMemory();
        Py_DECREF(rows);
        return NULL;
    }
    return (PyObject *)rows;
}

static int rows_traverse(PyObject *self, visitproc visit, void *arg)
{
    Rows *rows = (Rows *)self;
    Py_VISIT(Py_TYPE(self));
    for (Py_ssize_t i = 0; i < rows->n_fields; i++) {
        Py_VISIT(rows->fields[i].check);
        Py_VISIT(rows->fields[i].read);
    }
    for (Py_ssize_t i = 0; i < rows->n_instructions; i++) {
        Py_VISIT(rows->instructions[i].table);
        Py_VISIT(rows->instructions[i].other);
    }
    Py_VISIT(rows->target);
    return 0;
}

static int rows_clear(PyObject *self)
{
    Rows *rows = (Rows *)self;
    Py_ssize_t n_fields = rows->n_fields, n_instructions = rows->n_instructions;
    rows->n_fields = rows->n_instructions = 0; /* nothing runs on what is being taken apart */
    for (Py_ssize_t i = 0; i < n_fields; i++) {
        Py_CLEAR(rows->fields[i].name);
        Py_CLEAR(rows->fields[i].check);
        Py_CLEAR(rows->fields[i].read);
    }
    for (Py_ssize_t i = 0; i < n_instructions; i++) {
        Py_CLEAR(rows->instructions[i].table);
        Py_CLEAR(rows->instructions[i].other);
    }
    Py_CLEAR(rows->target);
    Py_CLEAR(rows->zero);
    Py_CLEAR(rows->one);
    return 0;
}

static void rows_dealloc(PyObject *self)
{
    Rows *rows = (Rows *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    rows_clear(self);
    PyMem_Free(rows->fields);
    PyMem_Free(rows->instructions);
    PyMem_Free(rows->features);
    freefunc free_ = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_(self);
    Py_DECREF(type);
}

/* --- one value --- */

/* Whether a character may be one that trimming takes away; some that it leaves are asked about too. */
static inline int is_doubtful(Py_UCS4 c)
{
    return c <= 0x20 || c >= 0x7f;
}

/* Return the usual value of a field as it is to be, a new reference; NULL without an exception where
   the field's own check has to say. */
static PyObject *usual(const Field *field, PyObject *value)
{
    if (field->kind == 'n') {
        if (PyFloat_CheckExact(value)) {
            double x = PyFloat_AsDouble(value);
            return x - x == 0.0 ? Py_NewRef(value) : NULL;
        }
        if (PyLong_CheckExact(value)) {
            double x = PyLong_AsDouble(value);
            if (x == -1.0 && PyErr_Occurred()) {
                PyErr_Clear();
                return NULL;
            }
            return PyFloat_FromDouble(x);
        }
        return NULL;
    }
    if (field->kind == 't' && PyUnicode_CheckExact(value)) {
        Py_ssize_t n = PyUnicode_GetLength(value);
        if (n < 1 || is_doubtful(PyUnicode_ReadChar(value, 0)) ||
            is_doubtful(PyUnicode_ReadChar(value, n - 1)))
            return NULL;
        return Py_NewRef(value);
    }
    if (field->kind == 'b' && PyBool_Check(value))
        return Py_NewRef(value);
    return NULL;
}

/* Return the checked value of a field, a new reference; NULL where the row has to be refused. */
static PyObject *checked(const Field *field, PyObject *row)
{
    PyObject *given = PyDict_GetItemWithError(row, field->name); /* borrowed; the row keeps it */
    if (given == NULL && PyErr_Occurred())
        return NULL;
    if (given == NULL || given == Py_None)
        return field->nullable ? Py_NewRef(Py_None) : NULL;
    PyObject *value = usual(field, given);
    if (value == NULL && !PyErr_Occurred()) {
        Py_INCREF(given);
        value = PyObject_CallFunctionObjArgs(field->check, given, NULL);
        Py_DECREF(given);
    }
    if (value == Py_None && !field->nullable) {
        Py_DECREF(value);
        return NULL;
    }
    return value;
}

static int is_known_only(const Rows *rows, PyObject *row)
{
    Py_ssize_t n = 0;
    for (Py_ssize_t i = 0; i < rows->n_fields; i++)
        n += PyDict_GetItemWithError(row, rows->fields[i].name) != NULL;
    if (rows->target != Py_None)
        n += PyDict_GetItemWithError(row, rows->target) != NULL;
    return n == PyDict_Size(row);
}

/* Fill the registers of a row and return its checked values, a new reference; NULL where it has to be refused. */
static PyObject *read_in(const Rows *rows, PyObject *row, PyObject *registers)
{
    if (!PyDict_CheckExact(row) || (rows->refuses_unknown && !is_known_only(rows, row)))
        return NULL;
    PyObject *values = PyDict_New();
    for (Py_ssize_t i = 0; values != NULL && i < rows->n_fields; i++) {
        const Field *field = &rows->fields[i];
        PyObject *value = checked(field, row);
        if (value == NULL || PyDict_SetItem(values, field->name, value) < 0) {
            Py_XDECREF(value);
            Py_CLEAR(values);
            break;
        }
        if (field->place < 0) {
            Py_DECREF(value);
            continue;
        }
        if (field->read != NULL) {
            PyObject *other = PyObject_CallFunctionObjArgs(field->read, value, NULL);
            Py_DECREF(value);
            value = other;
        }
        if (value == NULL || PyList_SetItem(registers, field->place, value) < 0)
            Py_CLEAR(values);
    }
    return values;
}

/* --- the instructions --- */

/* Return the number in a register and whether there is one. */
static int is_number(PyObject *value, double *x)
{
    if (value == Py_None)
        return 0;
    *x = PyFloat_AsDouble(value);
    return *x != -1.0 || !PyErr_Occurred();
}

static int put_number(PyObject *registers, Py_ssize_t place, double x)
{
    PyObject *value = PyFloat_FromDouble(x);
    return value == NULL ? -1 : PyList_SetItem(registers, place, value);
}

static int spread(const Rows *rows, const Instruction *it, PyObject *value, PyObject *registers)
{
    PyObject *found = PyDict_GetItemWithError(it->table, value);
    if (found == NULL && PyErr_Occurred())
        return -1;
    Py_ssize_t at = found == NULL ? -1 : PyNumber_AsSsize_t(found, NULL);
    for (Py_ssize_t k = 0; k < it->n; k++)
        if (PyList_SetItem(registers, it->to + k, Py_NewRef(k == at ? rows->one : rows->zero)) < 0)
            return -1;
    return 0;
}

static int looked_up(const Instruction *it, PyObject *value, PyObject *registers)
{
    PyObject *found = PyDict_GetItemWithError(it->table, value);
    if (found == NULL && PyErr_Occurred())
        return -1;
    return PyList_SetItem(registers, it->to, Py_NewRef(found == NULL ? it->other : found));
}

static int grouped(const Instruction *it, PyObject *value, PyObject *registers)
{
    if (value == Py_None)
        return 0;
    int is_kept = PySet_Contains(it->table, value);
    if (is_kept != 0)
        return is_kept < 0 ? -1 : 0;
    return PyList_SetItem(registers, it->to, Py_NewRef(it->other));
}

static int clipped(const Instruction *it, PyObject *value, PyObject *registers)
{
    double x;
    if (!is_number(value, &x))
        return PyErr_Occurred() ? -1 : 0;
    if (x < it->a)
        return put_number(registers, it->to, it->a);
    return x > it->b ? put_number(registers, it->to, it->b) : 0;
}

static int computed(const Instruction *it, PyObject *value, PyObject *registers)
{
    double x;
    if (!is_number(value, &x))
        return PyErr_Occurred() ? -1 : 0;
    if (it->kind == 's')
        return put_number(registers, it->to, (x - it->a) / it->b);
    return put_number(registers, it->to, x >= 0.0 ? log1p(x) : -log1p(-x));
}

static int done(const Rows *rows, const Instruction *it, PyObject *registers)
{
    if (it->kind == 'c') {
        PyObject *nothing = PyObject_CallFunctionObjArgs(it->table, registers, NULL);
        Py_XDECREF(nothing);
        return nothing == NULL || PyList_Size(registers) != rows->n_registers ? -1 : 0;
    }
    PyObject *value = PyList_GetItem(registers, it->from); /* borrowed */
    switch (it->kind) {
    case 'l':
        return looked_up(it, value, registers);
    case 'h':
        return spread(rows, it, value, registers);
    case 'r':
        return grouped(it, value, registers);
    case 'f': /* fill what is missing */
        return value == Py_None ? PyList_SetItem(registers, it->to, Py_NewRef(it->other)) : 0;
    case 'm': /* mark what is missing */
        return PyList_SetItem(registers, it->to, Py_NewRef(value == Py_None ? rows->one : rows->zero));
    case 'z':
        return clipped(it, value, registers);
    default: /* s(cale), lo(g) */
        return computed(it, value, registers);
    }
}

static int encoded(const Rows *rows, PyObject *registers, double *out)
{
    for (Py_ssize_t i = 0; i < rows->n_instructions; i++)
        if (done(rows, &rows->instructions[i], registers) < 0)
            return -1;
    for (Py_ssize_t i = 0; i < rows->n_features; i++) {
        double x;
        if (!is_number(PyList_GetItem(registers, rows->features[i]), &x)) {
            if (PyErr_Occurred())
                return -1;
            x = NAN;
        }
        out[i] = isinf(x) ? NAN : x; /* what overflowed on the way is missing */
    }
    return 0;
}

static PyObject *fresh_registers(const Rows *rows, PyObject *today)
{
    PyObject *registers = PyList_New(rows->n_registers);
    if (registers == NULL)
        return NULL;
    PyList_SetItem(registers, 0, Py_NewRef(today));
    for (Py_ssize_t i = 1; i < rows->n_registers; i++)
        PyList_SetItem(registers, i, Py_NewRef(Py_None));
    return registers;
}

/* Return the checked values of a row, a new reference, and fill its features; NULL where Python has to say. */
static PyObject *read_row(const Rows *rows, PyObject *row, PyObject *today, double *features)
{
    PyObject *registers = fresh_registers(rows, today);
    if (registers == NULL)
        return NULL;
    PyObject *values = read_in(rows, row, registers);
    if (values != NULL && encoded(rows, registers, features) < 0)
        Py_CLEAR(values);
    Py_DECREF(registers);
    return values;
}

/* See the method's own text. The list is copied: a check of Python's could change the caller's. */
static PyObject *rows_read(PyObject *self, PyObject *args)
{
    const Rows *rows = (const Rows *)self;
    PyObject *given, *today, *features;
    Array out;
    if (!PyArg_ParseTuple(args, "O!OO", &PyList_Type, &given, &today, &features))
        return NULL;
    PyObject *held = PyList_AsTuple(given);
    if (held == NULL)
        return NULL;
    Py_ssize_t n = PyTuple_Size(held);
    PyObject *outcome = NULL;
    if (held_array(&out, features, 'd', n * rows->n_features, 1, "features") == 0) {
        outcome = PyList_New(n);
        for (Py_ssize_t i = 0; outcome != NULL && i < n; i++) {
            double *to = (double *)out.view.buf + i * rows->n_features;
            PyObject *values = read_row(rows, PyTuple_GetItem(held, i), today, to);
            if (values == NULL) {
                PyErr_Clear();
                Py_DECREF(outcome);
                outcome = PyLong_FromSsize_t(i);
                break;
            }
            PyList_SetItem(outcome, i, values);
        }
        release_array(&out);
    }
    Py_DECREF(held);
    return outcome;
}

static PyMethodDef methods[] = {
    {"read", rows_read, METH_VARARGS,
     "read(rows, today, features): fill features (n_rows, n_features) and return the checked rows; or the "
     "place of the first row that is not usual, which Python has to read, or to refuse."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Rows checked and turned into features; see prepare/row_reader.py."},
    {Py_tp_new, rows_new},
    {Py_tp_dealloc, rows_dealloc},
    {Py_tp_traverse, rows_traverse},
    {Py_tp_clear, rows_clear},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec rows_spec = {"loopwright.core._kernel.Rows", sizeof(Rows), 0,
                         Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots};
