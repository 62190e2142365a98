/* The rows of a request: found in its JSON, checked as `prepare/signature.py` does, made into features. */
#include "plan.h"

#define FIRST_ROWS 4

static int is_named(const char *name, Py_ssize_t n, const char *word)
{
    return (size_t)n == strlen(word) && memcmp(name, word, (size_t)n) == 0;
}

/* Return the place of a field, that of the target (n_fields), or -1; most rows name them in their order. */
static Py_ssize_t find_field(const Plan *plan, const char *name, Py_ssize_t n, Py_ssize_t guess)
{
    if (guess < plan->n_fields) {
        const PlanField *field = &plan->fields[guess];
        if (field->n_name == n && memcmp(field->name, name, (size_t)n) == 0)
            return guess;
    }
    Value key = {.kind = 't', .text = name, .n = n};
    return table_find(&plan->names, &key);
}

/* --- one value --- */

/* Whether the character that begins or ends a text may be one that trimming takes away. */
static int is_doubtful(const char *at)
{
    unsigned char c = (unsigned char)*at;
    return c <= 0x20 || c == 0x7f || (c >= 0x80 && (c < 0xc3 || c > 0xdf));
}

static int is_usual_text(const Value *value)
{
    if (value->kind != 't' || value->n < 1 || is_doubtful(value->text))
        return 0;
    const char *last = value->text + value->n - 1;
    while (last > value->text && ((unsigned char)*last & 0xc0) == 0x80)
        last--;
    return !is_doubtful(last);
}

/* Replace a value by what a function of Python's makes of it. */
static int replaced(Asked *asked, PyObject *function, Value *value)
{
    PyObject *given = to_python(value);
    if (given == NULL)
        return 0;
    PyObject *made = PyObject_CallFunctionObjArgs(function, given, NULL);
    Py_DECREF(given);
    if (made == NULL)
        return 0;
    int outcome = from_python(value, made, asked->keep);
    Py_DECREF(made);
    return outcome == 0;
}

/* Check a value; text that is not usual is for the field's own check, so that it has one meaning. */
static int is_checked(Asked *asked, const PlanField *field, Value *value)
{
    if (value->kind == '-')
        return field->nullable;
    if (value->kind == field->kind && (field->kind != 't' || is_usual_text(value)))
        return 1;
    if (value->kind != 't' || !replaced(asked, field->check, value))
        return 0;
    return value->kind != '-' || field->nullable;
}

static int is_put(Asked *asked, const Value *value)
{
    if (value->kind != 'o') {
        put_value(&asked->inputs, value);
        return 1;
    }
    PyObject *text = PyObject_CallFunctionObjArgs(asked->plan->encode, value->object, NULL);
    char *bytes;
    Py_ssize_t n;
    int outcome = text != NULL && PyBytes_AsStringAndSize(text, &bytes, &n) == 0;
    if (outcome)
        put(&asked->inputs, bytes, (size_t)n);
    Py_XDECREF(text);
    return outcome;
}

/* --- one row --- */

static void fresh_row(Asked *asked)
{
    Plan *plan = asked->plan;
    memset(plan->is_given, 0, (size_t)plan->n_fields);
    for (Py_ssize_t i = 0; i < plan->n_registers; i++)
        plan->registers[i].kind = '-';
    if (asked->today != Py_None)
        plan->registers[0] = (Value){.kind = 'o', .object = asked->today};
}

/* Check the values that were read, keep their text, and put them into registers. */
static int taken_in(Asked *asked)
{
    Plan *plan = asked->plan;
    for (Py_ssize_t i = 0; i < plan->n_fields; i++) {
        const PlanField *field = &plan->fields[i];
        Value *value = &plan->row[i];
        if (!plan->is_given[i])
            value->kind = '-';
        if (!is_checked(asked, field, value))
            return 0;
        if (asked->captures) {
            put(&asked->inputs, field->quoted, (size_t)field->n_quoted);
            if (!is_put(asked, value))
                return 0;
        }
        if (field->place < 0)
            continue;
        if (field->read != NULL && !replaced(asked, field->read, value))
            return 0;
        plan->registers[field->place] = *value;
    }
    if (asked->captures)
        put(&asked->inputs, "}", 1);
    return 1;
}

/* Make room for one more row. */
static int has_room(Asked *asked)
{
    if (asked->n_rows < asked->room)
        return 1;
    Py_ssize_t room = asked->room ? 2 * asked->room : FIRST_ROWS;
    double *X = PyMem_Realloc(asked->X, (size_t)(room * asked->plan->n_features) * sizeof(double));
    if (X == NULL)
        return 0;
    asked->X = X;
    size_t *ends = PyMem_Realloc(asked->ends, (size_t)room * sizeof(size_t));
    if (ends == NULL)
        return 0;
    asked->ends = ends;
    asked->room = room;
    return 1;
}

static int ended_row(Asked *asked)
{
    if (!taken_in(asked) || !has_room(asked) ||
        !made_features(asked, asked->X + asked->n_rows * asked->plan->n_features))
        return 0;
    asked->ends[asked->n_rows++] = asked->inputs.n;
    Py_ssize_t n_kept = PyList_Size(asked->keep);
    return n_kept == 0 || PyList_SetSlice(asked->keep, 0, n_kept, NULL) == 0;
}

/* Read the value of a field, or pass over one that the model does not read. */
static int read_field(Asked *asked, Py_ssize_t at)
{
    Plan *plan = asked->plan;
    Value other;
    if (at < 0 || at == plan->n_fields)
        return (at >= 0 || !plan->refuses_unknown) && read_scalar(&asked->reader, &other);
    if (plan->is_given[at])
        return 0; /* of two the last one counts, says Python */
    plan->is_given[at] = 1;
    return read_scalar(&asked->reader, &plan->row[at]);
}

static Py_ssize_t n_given(const Plan *plan)
{
    Py_ssize_t n = 0;
    for (Py_ssize_t i = 0; i < plan->n_fields; i++)
        n += plan->is_given[i];
    return n;
}

/* Read the fields of a row after its opening bracket and, where one is given already, its first name. */
static int read_fields(Asked *asked, const char *name, Py_ssize_t n)
{
    Reader *reader = &asked->reader;
    Py_ssize_t guess = 0;
    fresh_row(asked);
    if (name == NULL && read_mark(reader, '}'))
        return ended_row(asked);
    do {
        if (name == NULL && !read_string(reader, &name, &n))
            return 0;
        Py_ssize_t at = find_field(asked->plan, name, n, guess);
        /* an id is taken out of the row */
        if (is_named(name, n, "inference_id") || !read_mark(reader, ':') || !read_field(asked, at))
            return 0;
        guess = at + 1;
        name = NULL;
    } while (read_mark(reader, ','));
    return read_mark(reader, '}') && ended_row(asked);
}

static int read_list(Asked *asked)
{
    Reader *reader = &asked->reader;
    do {
        if (!read_mark(reader, '{') || !read_fields(asked, NULL, 0))
            return 0;
    } while (read_mark(reader, ','));
    return read_mark(reader, ']');
}

/* --- a table: {"columns": [...], "data": [[...], ...]} --- */

/* Read the names of columns; return how many, or -1. */
static Py_ssize_t read_columns(Asked *asked, Py_ssize_t *places, Py_ssize_t room)
{
    Plan *plan = asked->plan;
    Reader *reader = &asked->reader;
    Py_ssize_t n_columns = 0, n;
    const char *name;
    if (!read_mark(reader, '['))
        return -1;
    memset(plan->is_given, 0, (size_t)plan->n_fields);
    do {
        if (n_columns == room || !read_string(reader, &name, &n))
            return -1;
        Py_ssize_t at = find_field(plan, name, n, n_columns);
        /* of names the model does not know it cannot be told here whether one comes twice */
        if (at < 0 || at == plan->n_fields || plan->is_given[at] || is_named(name, n, "inference_id"))
            return -1;
        plan->is_given[at] = 1;
        places[n_columns++] = at;
    } while (read_mark(reader, ','));
    return read_mark(reader, ']') ? n_columns : -1;
}

static int read_table_rows(Asked *asked, const Py_ssize_t *places, Py_ssize_t n_columns)
{
    Reader *reader = &asked->reader;
    do {
        fresh_row(asked);
        if (!read_mark(reader, '['))
            return 0;
        for (Py_ssize_t i = 0; i < n_columns; i++)
            if ((i && !read_mark(reader, ',')) || !read_field(asked, places[i]))
                return 0;
        if (!read_mark(reader, ']') || !ended_row(asked))
            return 0;
    } while (read_mark(reader, ','));
    return read_mark(reader, ']');
}

static int read_table(Asked *asked)
{
    Reader *reader = &asked->reader;
    const char *name;
    Py_ssize_t n, room = asked->plan->n_fields;
    Py_ssize_t *places = PyMem_Malloc((size_t)(room + 1) * sizeof(Py_ssize_t));
    int outcome = 0;
    if (places != NULL && read_mark(reader, ':')) {
        Py_ssize_t n_columns = read_columns(asked, places, room);
        outcome = n_columns > 0 && read_mark(reader, ',') && read_string(reader, &name, &n) &&
                  is_named(name, n, "data") && read_mark(reader, ':') && read_mark(reader, '[') &&
                  read_table_rows(asked, places, n_columns) && read_mark(reader, '}');
    }
    PyMem_Free(places);
    return outcome;
}

int read_rows(Asked *asked)
{
    Reader *reader = &asked->reader;
    const char *name;
    Py_ssize_t n;
    if (read_mark(reader, '['))
        return read_list(asked) && is_at_end(reader);
    if (!read_mark(reader, '{') || !read_string(reader, &name, &n))
        return 0;
    if (is_named(name, n, "columns"))
        return read_table(asked) && is_at_end(reader);
    if (is_named(name, n, "instances"))
        return read_mark(reader, ':') && read_mark(reader, '[') && read_list(asked) && read_mark(reader, '}') &&
               is_at_end(reader);
    asked->is_single = 1;
    /* an object without a column of the model may be a batch by another name, or a mistake */
    return read_fields(asked, name, n) && is_at_end(reader) && n_given(asked->plan) > 0;
}
