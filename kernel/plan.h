/* What the files of the plan share: values, tables, texts, and the reader of JSON. See plan.c. */
#ifndef LOOPWRIGHT_PLAN_H
#define LOOPWRIGHT_PLAN_H

#include "kernel.h"

#include <string.h>

/* A value on its way from a request to the features: missing (-), n(umber), b(oolean), t(ext), or an
   o(bject) of Python's. Texts and objects belong to the request, or to the plan. */
typedef struct {
    char kind;
    int is_plain; /* a number written with so few digits that its text says it the shortest way */
    double x;
    const char *text; /* UTF-8 */
    Py_ssize_t n;
    PyObject *object;
} Value;

/* --- table.c: levels by their hash --- */

typedef struct {
    Value key;
    uint64_t hash;
    Py_ssize_t at; /* what was stored with it */
} Slot;

typedef struct {
    Slot *slots;
    size_t mask;
    Py_ssize_t at_missing; /* what was stored with None, or -1 */
} Table;

/* Make room for `n` keys; keys are then put one by one, with what is stored with them (not negative). */
int table_made(Table *table, Py_ssize_t n);
int table_put(Table *table, const Value *key, Py_ssize_t at);
Py_ssize_t table_find(const Table *table, const Value *key); /* -1: it is not there */
void table_freed(Table *table);

/* --- text.c: JSON written --- */

typedef struct {
    char *bytes;
    size_t n, room;
    int failed; /* there was no memory; later writes do nothing */
} Text;

void put(Text *text, const char *bytes, size_t n);
void put_quoted(Text *text, const char *bytes, Py_ssize_t n); /* as JSON, with its quotes */
void put_number(Text *text, double x);                        /* finite; the shortest that reads back */
void put_value(Text *text, const Value *value);               /* any but an object */
void text_freed(Text *text);

/* --- json.c: JSON read --- */

typedef struct {
    const char *at, *end;
    char *arena; /* where escapes are taken out: as long as the body, so that it never overflows */
} Reader;

/* Each returns 0 where the text is not what it has to be, or not usual: Python then reads the body. */
int read_mark(Reader *reader, char mark); /* after white space */
int read_string(Reader *reader, const char **text, Py_ssize_t *n);
int read_scalar(Reader *reader, Value *value);
int is_next(Reader *reader, char mark); /* look only */
int is_at_end(Reader *reader);

/* --- value.c: to and from Python --- */

/* Return a new reference; NULL with an exception. */
PyObject *to_python(const Value *value);
/* What it points to is kept by `keep`, a list. Returns -1 with an exception. */
int from_python(Value *value, PyObject *object, PyObject *keep);

/* --- plan.c and what it is made of --- */

typedef struct {
    char *name; /* UTF-8 */
    Py_ssize_t n_name;
    char *quoted; /* as it begins the field in a captured row: ,"name": */
    Py_ssize_t n_quoted;
    PyObject *check, *read; /* read: what a checked value becomes in its register, or NULL */
    Py_ssize_t place;       /* its register, or -1 */
    char kind;              /* n(umber), t(ext), b(oolean), o(ther) */
    int nullable;
} PlanField;

typedef struct {
    char kind; /* see prepare/instruction.py */
    Py_ssize_t from, to, n;
    PyObject *operation; /* of `c` */
    Table table;
    Value *values; /* of `l`, by what the table stores */
    Value other;
    double a, b;
} Order;

typedef struct {
    PyObject_HEAD
    PlanField *fields;
    Order *orders;
    Py_ssize_t *features;
    Py_ssize_t n_fields, n_orders, n_features, n_registers, n_outputs;
    Table names;     /* of fields; the target is stored as n_fields */
    PyObject *owned; /* list: what values of the plan point to */
    PyObject *scorer, *numbers, *encode;
    char link, task;
    int refuses_unknown, has_calls;
    double threshold;
    PyObject *classes;                   /* tuple of bytes: their names as JSON */
    PyObject *after, *version, *tail;    /* bytes: of every answer, and of every captured line */
    /* of the row being read */
    Value *row, *registers;
    char *is_given, *is_changed; /* fields; registers that Python has not seen */
    int is_busy;
} Plan;

/* A request on its way. */
typedef struct {
    Plan *plan;
    Reader reader;
    PyObject *keep, *today; /* keep, a list: what values of the row point to */
    PyObject *seen;         /* list: the registers as Python's steps see them, once one was called */
    int is_stale;           /* they have changed there */
    double *X, *answers;
    size_t *ends; /* of each row's text in `inputs` */
    Py_ssize_t n_rows, room;
    int is_single, captures;
    Text inputs, answer, captured;
} Asked;

/* plan_row.c: read all rows of the body. Returns 1; 0 where Python has to read the request; an exception
   may be set, which says the same. */
int read_rows(Asked *asked);

/* plan_order.c: make the features of the row that was read. */
int made_features(Asked *asked, double *features);
int with_orders(Plan *plan, PyObject *list);
void order_freed(Order *order);

/* plan_answer.c: read the rows, ask the model, write the answer. */
PyObject *plan_answer(PyObject *self, PyObject *args);

#endif
