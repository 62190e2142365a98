/* From checked values to features: the instructions of `prepare/instruction.py`, on registers that need
   no object of Python's. A step that has no instruction is called as it is, on a list of the registers. */
#include "plan.h"

#include <math.h>

/* --- made once --- */

/* Fill the table of an order from the items of a dictionary, or of a set. */
static int with_table(Plan *plan, Order *order, PyObject *given)
{
    PyObject *items = PyDict_Check(given) ? PyDict_Items(given) : PySequence_List(given);
    Py_ssize_t n = items == NULL ? -1 : PyList_Size(items);
    int outcome = -1;
    if (n < 0 || table_made(&order->table, n) < 0)
        goto end;
    order->values = PyMem_Calloc((size_t)n + 1, sizeof(Value));
    for (Py_ssize_t i = 0; order->values != NULL && i < n; i++) {
        PyObject *item = PyList_GetItem(items, i), *key = item;
        Py_ssize_t at = i;
        Value level;
        if (order->kind != 'r') {
            PyObject *stored = PyTuple_GetItem(item, 1);
            key = PyTuple_GetItem(item, 0);
            if (order->kind == 'h')
                at = PyNumber_AsSsize_t(stored, PyExc_OverflowError);
            else if (from_python(&order->values[i], stored, plan->owned) < 0)
                goto end;
        }
        if (at < 0 || from_python(&level, key, plan->owned) < 0 || table_put(&order->table, &level, at) < 0)
            goto end;
    }
    outcome = order->values == NULL ? -1 : 0;
end:
    Py_XDECREF(items);
    return outcome;
}

static int fits(const Plan *plan, const Order *order)
{
    if (order->kind == 'c')
        return PyCallable_Check(order->operation);
    if (order->kind == '\0' || strchr("lhrfmszg", order->kind) == NULL)
        return 0;
    return order->from >= 0 && order->from < plan->n_registers && order->to >= 0 && order->n >= 1 &&
           order->n <= plan->n_registers && order->to <= plan->n_registers - order->n;
}

int with_orders(Plan *plan, PyObject *list)
{
    Py_ssize_t n = PyList_Size(list);
    if ((plan->orders = PyMem_Calloc((size_t)n + 1, sizeof(Order))) == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        Order *order = &plan->orders[i];
        PyObject *table, *other;
        int kind;
        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "CnnnOOdd", &kind, &order->from, &order->to, &order->n,
                              &table, &other, &order->a, &order->b))
            return -1;
        order->kind = kind < 128 ? (char)kind : '\0';
        plan->n_orders = i + 1;
        if (order->kind == 'c')
            order->operation = Py_NewRef(table);
        if (!fits(plan, order)) {
            PyErr_Format(PyExc_ValueError, "instruction %zd does not fit", i);
            return -1;
        }
        if (from_python(&order->other, other, plan->owned) < 0 ||
            (strchr("lhr", order->kind) != NULL && with_table(plan, order, table) < 0))
            return -1;
    }
    return 0;
}

void order_freed(Order *order)
{
    table_freed(&order->table);
    PyMem_Free(order->values);
    order->values = NULL;
}

/* --- steps in Python --- */

static int shown(Asked *asked)
{
    Plan *plan = asked->plan;
    int is_first = asked->seen == NULL;
    if (is_first && (asked->seen = PyList_New(plan->n_registers)) == NULL)
        return 0;
    for (Py_ssize_t i = 0; i < plan->n_registers; i++) {
        if (!is_first && !plan->is_changed[i])
            continue;
        PyObject *object = to_python(&plan->registers[i]);
        if (object == NULL || PyList_SetItem(asked->seen, i, object) < 0)
            return 0;
        plan->is_changed[i] = 0;
    }
    return 1;
}

static int called(Asked *asked, const Order *order)
{
    if (!asked->is_stale && !shown(asked))
        return 0;
    asked->is_stale = 1;
    PyObject *nothing = PyObject_CallFunctionObjArgs(order->operation, asked->seen, NULL);
    Py_XDECREF(nothing);
    return nothing != NULL && PyList_Size(asked->seen) == asked->plan->n_registers;
}

static int taken_back(Asked *asked)
{
    Plan *plan = asked->plan;
    asked->is_stale = 0;
    for (Py_ssize_t i = 0; i < plan->n_registers; i++)
        if (from_python(&plan->registers[i], PyList_GetItem(asked->seen, i), asked->keep) < 0)
            return 0;
    return 1;
}

/* --- the instructions --- */

static void put_at(Plan *plan, Py_ssize_t place, double x)
{
    plan->registers[place] = (Value){.kind = 'n', .x = x};
    plan->is_changed[place] = 1;
}

static void copied_to(Plan *plan, Py_ssize_t place, const Value *value)
{
    plan->registers[place] = *value;
    plan->is_changed[place] = 1;
}

static int computed(Plan *plan, const Order *order, const Value *value)
{
    double x = value->x;
    if (value->kind == '-')
        return 1;
    if (value->kind != 'n' && value->kind != 'b')
        return 0;
    if (order->kind == 's')
        put_at(plan, order->to, (x - order->a) / order->b);
    else if (order->kind == 'g')
        put_at(plan, order->to, x >= 0.0 ? log1p(x) : -log1p(-x));
    else if (x < order->a)
        put_at(plan, order->to, order->a);
    else if (x > order->b)
        put_at(plan, order->to, order->b);
    return 1;
}

static int done(Plan *plan, const Order *order)
{
    const Value *value = &plan->registers[order->from];
    Py_ssize_t at;
    switch (order->kind) {
    case 'l':
        at = table_find(&order->table, value);
        copied_to(plan, order->to, at < 0 ? &order->other : &order->values[at]);
        return 1;
    case 'h':
        at = table_find(&order->table, value);
        for (Py_ssize_t k = 0; k < order->n; k++)
            put_at(plan, order->to + k, k == at ? 1.0 : 0.0);
        return 1;
    case 'r':
        if (value->kind != '-' && table_find(&order->table, value) < 0)
            copied_to(plan, order->to, &order->other);
        return 1;
    case 'f':
        if (value->kind == '-')
            copied_to(plan, order->to, &order->other);
        return 1;
    case 'm':
        put_at(plan, order->to, value->kind == '-' ? 1.0 : 0.0);
        return 1;
    default:
        return computed(plan, order, value);
    }
}

static int all_done(Asked *asked)
{
    Plan *plan = asked->plan;
    for (Py_ssize_t i = 0; i < plan->n_orders; i++) {
        const Order *order = &plan->orders[i];
        if (order->kind == 'c') {
            if (!called(asked, order))
                return 0;
        } else if ((asked->is_stale && !taken_back(asked)) || !done(plan, order)) {
            return 0;
        }
    }
    return !asked->is_stale || taken_back(asked);
}

int made_features(Asked *asked, double *features)
{
    Plan *plan = asked->plan;
    int outcome = all_done(asked);
    Py_CLEAR(asked->seen);
    asked->is_stale = 0;
    for (Py_ssize_t i = 0; outcome && i < plan->n_features; i++) {
        const Value *value = &plan->registers[plan->features[i]];
        if (value->kind == 't' || value->kind == 'o')
            return 0;
        /* what overflowed on the way is missing */
        features[i] = value->kind == '-' || isinf(value->x) ? NAN : value->x;
    }
    return outcome;
}
