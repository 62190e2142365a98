/* From the bytes of a request to those of its answer, in one call. */
#include "plan.h"

#include <stdio.h>

#include <math.h>

static int is_scored(Asked *asked)
{
    Plan *plan = asked->plan;
    Py_ssize_t n = asked->n_rows * plan->n_outputs;
    Py_ssize_t n_features, n_outputs;
    if ((asked->answers = PyMem_Malloc((size_t)n * sizeof(double))) == NULL)
        return 0;
    if (plan->scorer != Py_None) {
        int are_trees = trees_of(plan->scorer, &n_features, &n_outputs);
        if (!(are_trees ? trees_scored : linear_scored)(plan->scorer, asked->X, asked->n_rows, asked->answers))
            return 0;
        link_scores(asked->answers, n, plan->n_outputs, plan->link);
    } else {
        Py_ssize_t size = asked->n_rows * plan->n_features * (Py_ssize_t)sizeof(double);
        PyObject *made = PyObject_CallFunction(plan->numbers, "y#n", (char *)asked->X, size, asked->n_rows);
        Array found;
        if (made == NULL)
            return 0;
        int outcome = held_array(&found, made, 'd', n, 0, "answers");
        if (outcome == 0) {
            memcpy(asked->answers, found.view.buf, (size_t)n * sizeof(double));
            release_array(&found);
        }
        Py_DECREF(made);
        if (outcome < 0)
            return 0;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (!isfinite(asked->answers[i])) /* JSON has no way to say it */
            return 0;
    return 1;
}

static void put_bytes(Text *text, PyObject *bytes)
{
    char *begin;
    Py_ssize_t n;
    if (PyBytes_AsStringAndSize(bytes, &begin, &n) == 0)
        put(text, begin, (size_t)n);
}

/* "prediction": ..., and how probable it is */
static void put_outcome(const Plan *plan, Text *text, const double *numbers)
{
    put(text, "\"prediction\":", 13);
    if (plan->task == 'r') {
        put_number(text, numbers[0]);
        return;
    }
    if (plan->task == 'b') {
        put_bytes(text, PyTuple_GetItem(plan->classes, numbers[0] >= plan->threshold));
        put(text, ",\"probability\":", 15);
        put_number(text, numbers[0]);
        return;
    }
    Py_ssize_t best = 0;
    for (Py_ssize_t k = 1; k < plan->n_outputs; k++)
        if (numbers[k] > numbers[best])
            best = k;
    put_bytes(text, PyTuple_GetItem(plan->classes, best));
    put(text, ",\"probabilities\":{", 18);
    for (Py_ssize_t k = 0; k < plan->n_outputs; k++) {
        if (k)
            put(text, ",", 1);
        put_bytes(text, PyTuple_GetItem(plan->classes, k));
        put(text, ":", 1);
        put_number(text, numbers[k]);
    }
    put(text, "}", 1);
}

/* Put the id of a row, which was quoted once: that of the request, in a batch with the row's place. */
static void put_id(const Asked *asked, Text *text, const Text *base, Py_ssize_t row)
{
    if (asked->is_single) {
        put(text, base->bytes, base->n);
        return;
    }
    char place[24];
    int n = snprintf(place, sizeof(place), ":%zd\"", row);
    put(text, base->bytes, base->n - 1);
    put(text, place, (size_t)n);
}

static void put_captured(Asked *asked, const Text *base, const char *at, const char *outcome, size_t n,
                         Py_ssize_t row)
{
    Text *text = &asked->captured;
    size_t begin = row ? asked->ends[row - 1] : 0;
    put(text, "{\"inference_id\":", 16);
    put_id(asked, text, base, row);
    put(text, ",\"at\":\"", 7);
    put(text, at, strlen(at));
    put(text, "\"", 1);
    put_bytes(text, asked->plan->version);
    put(text, asked->inputs.bytes + begin, asked->ends[row] - begin);
    put(text, ",", 1);
    put(text, outcome, n);
    put_bytes(text, asked->plan->tail);
}

static void put_answer(Asked *asked, const Text *base, const char *at)
{
    const Plan *plan = asked->plan;
    Text *text = &asked->answer;
    if (!asked->is_single)
        put(text, "{\"predictions\":[", 16);
    for (Py_ssize_t row = 0; row < asked->n_rows; row++) {
        put(text, ",{" + (row == 0), 2 - (size_t)(row == 0));
        size_t begin = text->n;
        put_outcome(plan, text, asked->answers + row * plan->n_outputs);
        if (asked->captures && !text->failed && !asked->inputs.failed)
            put_captured(asked, base, at, text->bytes + begin, text->n - begin, row);
        put(text, ",\"inference_id\":", 16);
        put_id(asked, text, base, row);
        if (!asked->is_single)
            put(text, "}", 1);
    }
    if (!asked->is_single)
        put(text, "]", 1);
    put_bytes(text, plan->after);
    put(text, "}", 1);
}

/* Return the answer, what is to be captured, and how many rows there were. */
static PyObject *put_together(Asked *asked, const char *id, Py_ssize_t n_id, const char *at)
{
    Text base = {NULL, 0, 0, 0};
    PyObject *found = NULL;
    put_quoted(&base, id, n_id);
    if (!base.failed)
        put_answer(asked, &base, at);
    if (base.failed || asked->answer.failed || asked->inputs.failed || asked->captured.failed)
        PyErr_NoMemory();
    else if (asked->captures)
        found = Py_BuildValue("y#y#n", asked->answer.bytes, (Py_ssize_t)asked->answer.n, asked->captured.bytes,
                              (Py_ssize_t)asked->captured.n, asked->n_rows);
    else
        found = Py_BuildValue("y#On", asked->answer.bytes, (Py_ssize_t)asked->answer.n, Py_None, asked->n_rows);
    text_freed(&base);
    return found;
}

static PyObject *answered(Asked *asked, const char *body, Py_ssize_t n, const char *id, Py_ssize_t n_id,
                          const char *at)
{
    PyObject *found = NULL;
    char *arena = memchr(body, '\\', (size_t)n) == NULL ? NULL : PyMem_Malloc((size_t)n);
    asked->keep = PyList_New(0);
    asked->reader = (Reader){body, body + n, arena};
    if (asked->keep != NULL && read_rows(asked) && is_scored(asked))
        found = put_together(asked, id, n_id, at);
    Py_XDECREF(asked->keep);
    Py_XDECREF(asked->seen);
    PyMem_Free(arena);
    PyMem_Free(asked->X);
    PyMem_Free(asked->answers);
    PyMem_Free(asked->ends);
    text_freed(&asked->inputs);
    text_freed(&asked->answer);
    text_freed(&asked->captured);
    return found;
}

PyObject *plan_answer(PyObject *self, PyObject *args)
{
    Plan *plan = (Plan *)self;
    const char *body, *id, *at;
    Py_ssize_t n, n_id;
    PyObject *today;
    if (!PyArg_ParseTuple(args, "y#s#zO", &body, &n, &id, &n_id, &at, &today))
        return NULL;
    if (plan->is_busy) /* a step of Python's let another thread in, or asks itself */
        return Py_NewRef(Py_None);
    plan->is_busy = 1;
    Py_INCREF(self);
    Asked asked = {.plan = plan, .today = today, .captures = at != NULL};
    PyObject *found = answered(&asked, body, n, id, n_id, at);
    plan->is_busy = 0;
    Py_DECREF(self);
    if (found != NULL)
        return found;
    /* what goes wrong for an ordinary reason is told by Python's own way */
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception))
        return NULL;
    PyErr_Clear();
    return Py_NewRef(Py_None);
}
